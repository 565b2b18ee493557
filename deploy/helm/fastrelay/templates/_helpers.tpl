{{/* Names are the release's; a release that is called like the chart is not called so twice. */}}
{{- define "fastrelay.name" -}}
{{- if contains "fastrelay" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-fastrelay" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What pods are selected by: a list of the root and the component. */}}
{{- define "fastrelay.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: fastrelay
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "fastrelay.labels" -}}
{{- $root := index . 0 -}}
{{ include "fastrelay.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* The full name of an image: a list of the root and the image's values. */}}
{{- define "fastrelay.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* One Lease for all operators that would look after the same relays. */}}
{{- define "fastrelay.leaseNamespace" -}}
{{- $own := ternary .Release.Namespace "kube-system" (not (empty .Values.operator.watchNamespaces)) -}}
{{ .Values.operator.leaseNamespace | default $own }}
{{- end }}

{{- define "fastrelay.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What a container needs that has no rights at all. */}}
{{- define "fastrelay.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "fastrelay.nonRoot" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
seccompProfile: {type: RuntimeDefault}
{{- end }}
