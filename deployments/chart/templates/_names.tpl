{{/* Labels of what belongs to a component: (dict "app" "workflow-engine" "component" "engine"). */}}
{{- define "dagengine.labels" -}}
app: {{ .app }}
app.kubernetes.io/name: {{ .app }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: dagengine
{{- end }}
{{- define "dagengine.engine.labels" -}}
{{ include "dagengine.labels" (dict "app" "workflow-engine" "component" "engine") }}
{{- end }}
{{- define "dagengine.orchestrator.labels" -}}
{{ include "dagengine.labels" (dict "app" "workflow-orchestrator" "component" "orchestrator") }}
{{- end }}
{{- define "dagengine.token.labels" -}}
{{ include "dagengine.labels" (dict "app" "workflow-token" "component" "token") }}
{{- end }}
{{- define "dagengine.monitoring.labels" -}}
app.kubernetes.io/name: workflow-monitoring
app.kubernetes.io/component: monitoring
app.kubernetes.io/part-of: dagengine
{{- end }}

{{/* name:tag of an image: (list . .Values.images.engine). */}}
{{- define "dagengine.image" -}}
{{- $root := index . 0 }}{{- $image := index . 1 -}}
{{ $image.name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "dagengine.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "dagengine.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "dagengine.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Over nodes and zones, as far as there are any: the argument is the value of the label `app`. */}}
{{- define "dagengine.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app: {{ $ }}
    matchLabelKeys:
      - pod-template-hash
  {{- end }}
{{- end }}

{{/* A Role of the orchestrator and its binding: (dict "root" . "name" "discovery" "rules" (list …)). */}}
{{- define "dagengine.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: workflow-orchestrator-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dagengine.orchestrator.labels" . | nindent 4 }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: workflow-orchestrator-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dagengine.orchestrator.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: workflow-orchestrator-{{ .name }}
subjects:
  - kind: ServiceAccount
    name: workflow-orchestrator
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* All addresses to listen on. */}}
{{- define "dagengine.host" -}}
{{ .Values.ipv6 | ternary "::" "0.0.0.0" | quote }}
{{- end }}

{{- define "dagengine.dnsEgress" -}}
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- if .Values.openshift }}
- ports:
    - protocol: UDP
      port: 5353
    - protocol: TCP
      port: 5353
{{- end }}
{{- end }}
{{- define "dagengine.apiEgress" -}}
- ports:
    - protocol: TCP
      port: 443
    - protocol: TCP
      port: 6443
    - protocol: TCP
      port: 8443
{{- end }}
