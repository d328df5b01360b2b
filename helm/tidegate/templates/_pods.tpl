{{- /* What the Pod Security level `restricted` asks for. */ -}}
{{- define "tidegate.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "tidegate.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- /* (list $ "gateway" .Values.gateway) */ -}}
{{- define "tidegate.scheduling" -}}
{{- $values := index . 2 -}}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* Seconds from a pod's deletion to its SIGKILL: everything that its end may take, added up. */ -}}
{{- define "tidegate.gracePeriodSeconds" -}}
{{- $s := .Values.settings -}}
{{- addf
      .Values.gateway.preStopSeconds
      (dig "drain" "delay_s" 2.0 $s)
      (dig "drain" "window_s" 15.0 $s)
      (dig "server" "shutdown_timeout_s" 10.0 $s)
      (dig "redis" "reply_timeout_s" 5.0 $s)
      .Values.gateway.spareSeconds | ceil | int -}}
{{- end -}}
