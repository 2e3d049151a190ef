{{/* Values that do not go together: a message that says what was found and what works. */}}
{{- define "dovetail.check" -}}
{{- $volume := .Values.storage.volume -}}
{{- if and .Values.storage.url $volume.existingClaim -}}
{{- fail (printf "storage: with the bucket %s no pod would mount the claim %s; use one of storage.url and storage.volume.existingClaim" .Values.storage.url $volume.existingClaim) -}}
{{- end -}}
{{- if and (not .Values.valkey.enabled) (not .Values.redis.existingSecret) -}}
{{- fail "redis.existingSecret is empty and valkey.enabled is false: name the Secret with the address of your server" -}}
{{- end -}}
{{- if and .Values.weights.existingClaim .Values.weights.pull -}}
{{- fail "weights: existingClaim is read-only, so nothing can be pulled into it; use one of existingClaim and pull" -}}
{{- end -}}
{{- range .Values.weights.pull -}}
{{- if and (hasPrefix "https://" .source) (not .sha256) -}}
{{- fail (printf "weights.pull: %s has no sha256; files of web servers need the digest that they must have" .source) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the gateway that the route belongs to" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the hosts under which customers reach the API" -}}
{{- end -}}
{{- $everywhere := .Values.models -}}
{{- $had := list -}}
{{- $taken := list -}}
{{- range $name, $pool := include "dovetail.pools" . | fromYaml -}}
{{- range $pool.models -}}
{{- if not (has . $everywhere) -}}
{{- fail (printf "workers.%s.models: %s is not among models (%s), so no job may name it" $name . (join ", " $everywhere)) -}}
{{- end -}}
{{- end -}}
{{- $only := default (list "plan" "segment" "join") $pool.only -}}
{{- $taken = concat $taken $only -}}
{{- if has "segment" $only -}}
{{- $had = concat $had (default $everywhere $pool.models) -}}
{{- else if gt (int $pool.gpu.count) 0 -}}
{{- fail (printf "workers.%s.gpu.count is %d, but the pool takes only %s, which uses no GPU: set gpu.count to 0, or add segment to only" $name (int $pool.gpu.count) (join " and " $only)) -}}
{{- end -}}
{{- $scaling := $pool.autoscaling -}}
{{- if and (eq $scaling.kind "hpa") (lt (int $scaling.min) 1) -}}
{{- fail (printf "workers.%s.autoscaling.min is %d: hpa needs 1 or more, only keda goes to 0" $name (int $scaling.min)) -}}
{{- end -}}
{{- if and (ne $scaling.kind "none") (gt (int $scaling.min) (int $scaling.max)) -}}
{{- fail (printf "workers.%s.autoscaling: min %d is more than max %d" $name (int $scaling.min) (int $scaling.max)) -}}
{{- end -}}
{{- end -}}
{{- range list "plan" "segment" "join" -}}
{{- if and $taken (not (has . $taken)) -}}
{{- fail (printf "workers: no pool takes %s, so all jobs would wait for ever; name it in the only of some pool, which takes all kinds where it is empty" .) -}}
{{- end -}}
{{- end -}}
{{- range .Values.models -}}
{{- if and $had (not (has . $had)) -}}
{{- fail (printf "models: no pool of workers has %s, so its jobs would wait for ever" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
