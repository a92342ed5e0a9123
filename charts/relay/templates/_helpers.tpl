{{- /* Labels of an object of a component: list of the root and the component. */}}
{{- define "relay.labels" -}}
{{- $root := first . -}}
{{ include "relay.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Labels by which pods of a component are found: they never change. `kubectl relay` knows the first and the last. */}}
{{- define "relay.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: relay
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- /* Reference of an image: list of the root, the image's name, and the value of its digest. */}}
{{- define "relay.image" -}}
{{- $root := first . -}}
{{- $name := index . 1 -}}
{{- $registry := $root.Values.image.registry | trimSuffix "/" -}}
{{- with (last .).digest -}}
{{ printf "%s/%s@%s" $registry $name . }}
{{- else -}}
{{ printf "%s/%s:%s" $registry $name ($root.Values.image.tag | toString | default $root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- /* What every pod has in common: list of the root, the component, and its values. */}}
{{- define "relay.pod" -}}
{{- $root := first . -}}
{{- $values := last . -}}
serviceAccountName: relay-{{ index . 1 }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
nodeSelector:
  {{- mergeOverwrite (dict "kubernetes.io/os" "linux") $values.nodeSelector | toYaml | nindent 2 }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "relay.selector" (list $root (index . 1)) | nindent 8 }}
{{- end }}

{{- /* What no container of Relay needs. */}}
{{- define "relay.confinement" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}
