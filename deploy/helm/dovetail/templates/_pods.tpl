{{/* What pods and containers have in common. */}}

{{/* Argument: (dict "user" ... "group" ... "fsGroup" ...); what is null is left to the platform. */}}
{{- define "dovetail.podSecurity" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .user) }}
runAsUser: {{ int64 .user }}
{{- end }}
{{- if not (kindIs "invalid" .group) }}
runAsGroup: {{ int64 .group }}
{{- end }}
{{- if not (kindIs "invalid" .fsGroup) }}
fsGroup: {{ int64 .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "dovetail.ownPodSecurity" -}}
{{- $own := default dict .Values.podSecurity -}}
{{ include "dovetail.podSecurity" (dict "user" $own.runAsUser "group" $own.runAsGroup "fsGroup" $own.fsGroup) }}
{{- end -}}

{{- define "dovetail.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Variables from Secrets that all processes need. First in a list: the address names the password. */}}
{{- define "dovetail.secretEnv" -}}
{{- if .Values.valkey.enabled }}
- name: VALKEY_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "dovetail.valkeySecret" . }}, key: password}
- name: DOVETAIL_REDIS_URL
  value: redis://:$(VALKEY_PASSWORD)@{{ include "dovetail.valkeyName" . }}:6379/0
{{- else }}
- name: DOVETAIL_REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.urlKey }}}
{{- if .Values.redis.queueUrlKey }}
- name: DOVETAIL_QUEUE_REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.queueUrlKey }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "dovetail.s3Env" -}}
{{- with .Values.storage.s3.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.storage.s3.accessKeyIdKey }}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.storage.s3.secretAccessKeyKey }}}
{{- end }}
{{- end -}}

{{/* A map of name to value as a list. */}}
{{- define "dovetail.plainEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Settings that all processes agree on, as YAML of a map. */}}
{{- define "dovetail.commonEnv" -}}
DOVETAIL_DATA_DIR: /data
DOVETAIL_MODELS: {{ .Values.models | toJson | quote }}
{{- with .Values.storage.url }}
DOVETAIL_STORAGE_URL: {{ . | quote }}
{{- end }}
{{- with .Values.storage.s3.region }}
AWS_REGION: {{ . | quote }}
{{- end }}
{{- with .Values.storage.s3.endpoint }}
AWS_ENDPOINT_URL: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* What API and workers share where there is no bucket. */}}
{{- define "dovetail.dataClaim" -}}
persistentVolumeClaim: {claimName: {{ default (printf "%s-data" (include "dovetail.fullname" .)) .Values.storage.volume.existingClaim }}}
{{- end -}}

{{/* Where pods go. Argument: values with these keys. */}}
{{- define "dovetail.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* First lines of every pod's spec. */}}
{{- define "dovetail.podBasics" -}}
serviceAccountName: {{ include "dovetail.serviceAccountName" . }}
automountServiceAccountToken: false
# A Service named dovetail would set DOVETAIL_PORT to tcp://...
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Numbers of the API whose sum is the work of a pool, as a JSON list. Argument: the pool. */}}
{{- define "dovetail.wantedMetrics" -}}
{{- $models := list -}}
{{- range .models -}}
{{- $models = append $models (printf "{model=%q}" (regexReplaceAll "^([^=/:]+)=.*" . "${1}")) -}}
{{- end -}}
{{- $found := list -}}
{{- if not (has (len .only) (list 0 3)) -}}
{{- range .only -}}
{{- if and (eq . "segment") $models -}}
{{- range $models -}}{{- $found = append $found (printf "dovetail_wanted_segment_workers_by_model%s" .) -}}{{- end -}}
{{- else -}}
{{- $found = append $found (printf "dovetail_wanted_workers_by_task{task=%q}" .) -}}
{{- end -}}
{{- end -}}
{{- else if $models -}}
{{- range $models -}}{{- $found = append $found (printf "dovetail_wanted_workers_by_model%s" .) -}}{{- end -}}
{{- else -}}
{{- $found = list "dovetail_wanted_workers" -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* The pools that exist: name to `worker` with what the pool has different, as YAML. */}}
{{- define "dovetail.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.workers -}}
{{- $pool := mustMergeOverwrite (deepCopy $.Values.worker) (deepCopy (default dict $own)) -}}
{{- if $pool.enabled -}}{{- $_ := set $pools $name $pool -}}{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}
