{{- /* The gateway's settings file. */ -}}
{{- define "tidegate.settings" -}}
{{- /* What the chart decides comes last: probes and Services count on it. */ -}}
{{- /* `::` is every address of both families; on a node without IPv6 it is taken as 0.0.0.0. */ -}}
{{- $server := dict "host" "::" "port" 8080 "admin_host" "::" "admin_port" 9090 "auth" .Values.auth.mode -}}
{{- if eq .Values.auth.mode "none" -}}
{{- /* Without sign-in only these names are served, besides those of settings.server.allowed_hosts. */ -}}
{{- $name := include "tidegate.fullname" . -}}
{{- $names := list $name (printf "%s.%s" $name (include "tidegate.namespace" .)) (printf "%s.%s.svc" $name (include "tidegate.namespace" .)) (printf "%s.%s.svc.cluster.local" $name (include "tidegate.namespace" .)) -}}
{{- if .Values.ingress.enabled -}}
{{- $names = concat $names .Values.ingress.hosts -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $names = concat $names .Values.httpRoute.hostnames -}}
{{- end -}}
{{- $own := dig "server" "allowed_hosts" list (.Values.settings | default dict) -}}
{{- if kindIs "string" $own -}}
{{- $own = splitList "," $own -}}
{{- end -}}
{{- $_ := set $server "allowed_hosts" (concat $names $own | uniq) -}}
{{- end -}}
{{- $ours := dict "server" $server -}}
{{- if eq .Values.auth.mode "jwt" -}}
{{- $_ := set $ours "source" (dict "kind" .Values.auth.source) -}}
{{- end -}}
{{- mergeOverwrite (dict "log" (dict "format" "json")) (deepCopy (.Values.settings | default dict)) $ours | toYaml -}}
{{- end -}}
