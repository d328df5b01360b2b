{{- /* Where the key of the tokens is: "secret", "file", "settings" or "". */ -}}
{{- define "tidegate.auth.keys" -}}
{{- if eq .Values.auth.mode "jwt" -}}
{{- $auth := (.Values.settings | default dict).auth | default dict -}}
{{- if .Values.auth.publicKeysSecret -}}
{{- if .Values.auth.existingSecret -}}
{{- fail "auth.existingSecret and auth.publicKeysSecret are mutually exclusive: set only one of them" -}}
{{- end -}}
file
{{- else if or $auth.jwks_url $auth.key_file -}}
settings
{{- else -}}
secret
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.auth.secretName" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "tidegate.fullname" .)) -}}
{{- end -}}

{{- define "tidegate.publish.secretName" -}}
{{- .Values.publish.existingSecret | default (printf "%s-publish" (include "tidegate.fullname" .)) -}}
{{- end -}}

{{- define "tidegate.auth.env" -}}
{{- if eq (include "tidegate.auth.keys" .) "secret" }}
- name: TIDEGATE_AUTH__SECRET
  valueFrom:
    secretKeyRef: {name: {{ include "tidegate.auth.secretName" . }}, key: {{ .Values.auth.secretKey }}}
{{- with .Values.auth.previousSecretKey }}
- name: TIDEGATE_AUTH__PREVIOUS_SECRET
  valueFrom:
    secretKeyRef: {name: {{ include "tidegate.auth.secretName" $ }}, key: {{ . }}}
{{- end }}
{{- else if eq (include "tidegate.auth.keys" .) "file" }}
- name: TIDEGATE_AUTH__KEY_FILE
  value: /etc/tidegate/keys/{{ .Values.auth.publicKeysKey }}
{{- end }}
{{- end -}}
