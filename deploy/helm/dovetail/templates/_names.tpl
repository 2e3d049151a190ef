{{/* Names and labels. */}}

{{- define "dovetail.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: pools and parts add theirs, and names of pods end at 63. */}}
{{- define "dovetail.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "dovetail.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dovetail.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dovetail.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "dovetail.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects pods; the caller adds the component. */}}
{{- define "dovetail.selector" -}}
app.kubernetes.io/name: {{ include "dovetail.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dovetail.labels" -}}
{{ include "dovetail.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Argument: (dict "image" ... "root" $). */}}
{{- define "dovetail.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- define "dovetail.keysSecret" -}}{{ include "dovetail.fullname" . }}-keys{{- end -}}
{{- define "dovetail.valkeyName" -}}{{ include "dovetail.fullname" . }}-valkey{{- end -}}
{{- define "dovetail.valkeySecret" -}}
{{- default (printf "%s-valkey" (include "dovetail.fullname" .)) .Values.valkey.existingSecret -}}
{{- end -}}

{{/* Secret and key of an API key, "secret/key". Argument: (dict "name" ... "key" {...} "root" $). */}}
{{- define "dovetail.keyReference" -}}
{{- if .key.existingSecret -}}
{{- .key.existingSecret }}/{{ default .name .key.secretKey -}}
{{- else -}}
{{- include "dovetail.keysSecret" .root }}/{{ .name -}}
{{- end -}}
{{- end -}}

{{- define "dovetail.publicUrl" -}}
{{- if .Values.api.publicUrl -}}
{{- .Values.api.publicUrl -}}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tls))) (first .Values.ingress.hosts) -}}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
{{- printf "https://%s" (first .Values.httpRoute.hostnames) -}}
{{- end -}}
{{- end -}}
