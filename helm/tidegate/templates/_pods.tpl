{{- /* Fields of a pod that every component takes from its values: (list $ .Values.gateway) */ -}}
{{- define "tidegate.pod" -}}
{{- $values := index . 1 -}}
enableServiceLinks: false
{{- include "tidegate.pullSecrets" (index . 0) }}
{{- if not (kindIs "invalid" $values.hostUsers) }}
hostUsers: {{ $values.hostUsers }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" -}}
{{- with get $values $field }}
{{ dict $field . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The container's own security context: .Values.gateway */ -}}
{{- define "tidegate.containerSecurity" -}}
{{- with .securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A probe: (list .Values.gateway.livenessProbe (dict "httpGet" ...)) */ -}}
{{- define "tidegate.probe" -}}
{{- mergeOverwrite (deepCopy (index . 0 | default dict)) (index . 1) | toYaml -}}
{{- end -}}

{{- /* Variables of the chart and of the values, which may replace one: (list "the chart's, as YAML" .Values.gateway.extraEnv).
A name twice in a list is refused by server-side apply. */ -}}
{{- define "tidegate.env" -}}
{{- $replaced := list -}}
{{- range index . 1 -}}{{- $replaced = append $replaced .name -}}{{- end -}}
{{- $env := list -}}
{{- range index . 0 | fromYamlArray -}}
{{- if not (has .name $replaced) -}}{{- $env = append $env . -}}{{- end -}}
{{- end -}}
{{- concat $env (index . 1) | toYaml -}}
{{- end -}}

{{- /* Seconds from a pod's deletion to its SIGKILL: everything that its end may take, added up. */ -}}
{{- define "tidegate.gracePeriodSeconds" -}}
{{- $s := .Values.settings | default dict -}}
{{- addf
      .Values.gateway.preStopSeconds
      (dig "drain" "delay_s" 2.0 $s)
      (dig "drain" "window_s" 15.0 $s)
      (dig "server" "shutdown_timeout_s" 10.0 $s)
      (dig "redis" "reply_timeout_s" 5.0 $s)
      .Values.gateway.spareSeconds | ceil | int -}}
{{- end -}}
