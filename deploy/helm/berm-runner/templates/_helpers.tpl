{{- define "berm.selector" -}}
app.kubernetes.io/name: berm-runner
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "berm.labels" -}}
{{ include "berm.selector" . }}
app.kubernetes.io/part-of: berm
{{- end }}

{{- /* What Pod Security "restricted" asks for, and no more rights than that. */ -}}
{{- define "berm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "berm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "berm.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* The repository of the image: without tag and digest. */ -}}
{{- define "berm.repository" -}}
{{- regexReplaceAll ":[^/:]*$" (regexReplaceAll "@.*$" .Values.image "") "" }}
{{- end }}

{{- /* The file of --deployment. */ -}}
{{- define "berm.deployment" -}}
{{- $r := .Values.resources }}
{{- $amounts := dict }}
{{- range $kind, $name := dict "Request" "requests" "Limit" "limits" }}
{{- range $resource, $amount := get $r $name }}
{{- if has $resource (list "cpu" "memory") }}{{- $_ := set $amounts (printf "%s%s" $resource $kind) (toString $amount) }}{{- end }}
{{- end }}
{{- end }}
{{- $installed := dict "image" .Values.image "resources" $amounts "serviceAccount" .Release.Name "imagePullPolicy" "IfNotPresent" "env" .Values.env "args" .Values.extraArgs "nodeSelector" .Values.nodeSelector "tolerations" .Values.tolerations "annotations" .Values.podAnnotations "labels" .Values.podLabels }}
{{- dict "namespace" .Release.Namespace "statefulSet" .Release.Name "selfUpdate" .Values.selfUpdate.enabled "images" (.Values.selfUpdate.images | default (list (include "berm.repository" .))) "installed" $installed | toJson }}
{{- end }}

{{- define "berm.claim" -}}
- metadata: {name: data}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .Values.storage.className }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .Values.storage.size }}}}
{{- end }}
