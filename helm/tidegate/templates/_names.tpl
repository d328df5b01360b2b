{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* 40 characters, so that `-headless` and a pod's suffix fit into a label. */ -}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tidegate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- /* Labels that select pods: they can never change. (list $ "gateway") */ -}}
{{- define "tidegate.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "tidegate.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Labels of pods, without those that change with the version of the chart: they would replace the
pods in an upgrade that changes nothing else. (list $ "gateway" .Values.gateway.podLabels) */ -}}
{{- define "tidegate.podLabels" -}}
{{- $ := index . 0 -}}
{{- $extra := dict -}}
{{- if gt (len .) 2 -}}{{- $extra = index . 2 -}}{{- end -}}
{{- $own := include "tidegate.selector" (list $ (index . 1)) | fromYaml -}}
{{- $own = mergeOverwrite $own (dict "app.kubernetes.io/part-of" "tidegate" "app.kubernetes.io/managed-by" $.Release.Service) -}}
{{- mergeOverwrite (deepCopy $.Values.commonLabels) $extra $own | toYaml -}}
{{- end -}}

{{- /* Labels of an object: (list $ "gateway"), and optionally more labels. */ -}}
{{- define "tidegate.labels" -}}
{{- $ := index . 0 -}}
{{- $chart := printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" -}}
{{- $own := dict "helm.sh/chart" $chart "app.kubernetes.io/version" $.Chart.AppVersion -}}
{{- mergeOverwrite (include "tidegate.podLabels" . | fromYaml) $own | toYaml -}}
{{- end -}}

{{- /* What every object's metadata begins with:
(dict "root" $ "name" "a" "component" "gateway"), and optionally "labels" and "annotations". */ -}}
{{- define "tidegate.metadata" -}}
{{- with .root.Values.namespaceOverride -}}
namespace: {{ . }}
{{ end -}}
{{- include "tidegate.clusterMetadata" . -}}
{{- end -}}

{{- /* The same for objects that are in no namespace. */ -}}
{{- define "tidegate.clusterMetadata" -}}
name: {{ .name }}
labels:
  {{- include "tidegate.labels" (list .root .component (.labels | default dict)) | nindent 2 }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A repository with the registry of global.imageRegistry, if any: (list $ "tidegate/tidegate") */ -}}
{{- define "tidegate.repository" -}}
{{- $ := index . 0 -}}
{{- $repository := index . 1 -}}
{{- with $.Values.global.imageRegistry -}}
{{- /* As Docker tells a registry from a name: by a dot or a port. */ -}}
{{- $first := splitList "/" $repository | first -}}
{{- if and (contains "/" $repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- $repository = trimPrefix (printf "%s/" $first) $repository -}}
{{- end -}}
{{- printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- else -}}
{{- $repository -}}
{{- end -}}
{{- end -}}

{{- /* (list $ .Values.image "the tag if it has none") */ -}}
{{- define "tidegate.imageName" -}}
{{- $image := index . 1 -}}
{{- $repository := include "tidegate.repository" (list (index . 0) $image.repository) -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default (index . 2) }}
{{- end -}}
{{- end -}}

{{- define "tidegate.image" -}}
{{- include "tidegate.imageName" (list . .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{- define "tidegate.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.image.pullSecrets .Values.global.imagePullSecrets -}}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) -}}
{{- end -}}
{{- with uniq $names }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tidegate.gateway.serviceAccount" -}}
{{- .Values.gateway.serviceAccount.name | default (printf "%s-gateway" (include "tidegate.fullname" .)) -}}
{{- end -}}

{{- define "tidegate.operator.serviceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (printf "%s-operator" (include "tidegate.fullname" .)) -}}
{{- end -}}

{{- /* For every Service: viewers, metrics and Valkey have addresses of the same families. */ -}}
{{- define "tidegate.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}
