{{- /* "true" when the streams are in the built-in Valkey. */ -}}
{{- define "tidegate.redis.builtIn" -}}
{{- $external := or .Values.redis.url .Values.redis.urlKey -}}
{{- if and .Values.redis.urlKey (not .Values.redis.existingSecret) -}}
{{- fail "redis.urlKey names a key of redis.existingSecret: set redis.existingSecret as well" -}}
{{- end -}}
{{- if and .Values.redis.url .Values.redis.urlKey -}}
{{- fail "redis.url and redis.urlKey exclude each other: give one" -}}
{{- end -}}
{{- if and .Values.redis.sentinelPasswordKey (not .Values.redis.existingSecret) -}}
{{- fail "redis.sentinelPasswordKey names a key of redis.existingSecret: set redis.existingSecret as well" -}}
{{- end -}}
{{- if and .Values.redis.sentinelUsername (not .Values.redis.sentinelPasswordKey) -}}
{{- fail "redis.sentinelUsername goes with a password: set redis.sentinelPasswordKey as well" -}}
{{- end -}}
{{- if ne (empty .Values.redis.tls.certKey) (empty .Values.redis.tls.keyKey) -}}
{{- fail "redis.tls.certKey and redis.tls.keyKey go together: give both, or none" -}}
{{- end -}}
{{- if and (not $external) (not .Values.valkey.enabled) -}}
{{- fail "there is no Redis: set redis.url, or redis.existingSecret and redis.urlKey, or valkey.enabled" -}}
{{- end -}}
{{- if and .Values.valkey.enabled (not $external) -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.redis.url" -}}
{{- if include "tidegate.redis.builtIn" . -}}
redis://{{ include "tidegate.fullname" . }}-valkey:6379/0
{{- else -}}
{{ .Values.redis.url }}
{{- end -}}
{{- end -}}

{{- /* What the names of streams begin with. */ -}}
{{- define "tidegate.streams.prefix" -}}
{{- get (include "tidegate.streams" . | fromYaml) "prefix" | default "operation-progress:" -}}
{{- end -}}

{{- define "tidegate.streams.group" -}}
{{- get (include "tidegate.streams" . | fromYaml) "group" | default "tidegate" -}}
{{- end -}}

{{- /* Name of the Secret with the password; empty without one. */ -}}
{{- define "tidegate.redis.passwordSecret" -}}
{{- if include "tidegate.redis.builtIn" . -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" (include "tidegate.fullname" .)) -}}
{{- else if .Values.redis.passwordKey -}}
{{- .Values.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.redis.passwordKey" -}}
{{- if include "tidegate.redis.builtIn" . -}}
{{- .Values.valkey.passwordKey -}}
{{- else -}}
{{- .Values.redis.passwordKey -}}
{{- end -}}
{{- end -}}

{{- /* The way to Redis as environment of a gateway, or of its commands. */ -}}
{{- define "tidegate.redis.env" -}}
- name: TIDEGATE_REDIS__URL
{{- if .Values.redis.urlKey }}
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.urlKey }}}
{{- else }}
  value: {{ include "tidegate.redis.url" . | quote }}
{{- end }}
{{- with .Values.redis.username }}
- name: TIDEGATE_REDIS__USERNAME
  value: {{ . | quote }}
{{- end }}
{{- with include "tidegate.redis.passwordSecret" . }}
- name: TIDEGATE_REDIS__PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ include "tidegate.redis.passwordKey" $ }}}
{{- end }}
{{- with .Values.redis.sentinelUsername }}
- name: TIDEGATE_REDIS__SENTINEL_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- with .Values.redis.sentinelPasswordKey }}
- name: TIDEGATE_REDIS__SENTINEL_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $.Values.redis.existingSecret }}, key: {{ . }}}
{{- end }}
{{- with .Values.redis.tls }}
{{- if .secret }}
- name: TIDEGATE_REDIS__TLS_CA_FILE
  value: /etc/tidegate/redis-tls/{{ .caKey }}
{{- if .certKey }}
- name: TIDEGATE_REDIS__TLS_CERT_FILE
  value: /etc/tidegate/redis-tls/{{ .certKey }}
- name: TIDEGATE_REDIS__TLS_KEY_FILE
  value: /etc/tidegate/redis-tls/{{ .keyKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tidegate.redis.mounts" -}}
{{- if .Values.redis.tls.secret }}
- name: redis-tls
  mountPath: /etc/tidegate/redis-tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tidegate.redis.volumes" -}}
{{- with .Values.redis.tls.secret }}
- name: redis-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- end -}}

{{- /* `spec.streams` of the Gateway resource; empty where nothing is set. */ -}}
{{- define "tidegate.streams" -}}
{{- $streams := deepCopy (.Values.streams | default dict) }}
{{- with dig "redis" "key_prefix" "" (.Values.settings | default dict) }}
{{- $streams = merge $streams (dict "prefix" .) }}
{{- end }}
{{- with dig "redis" "group" "" (.Values.settings | default dict) }}
{{- $streams = merge $streams (dict "group" .) }}
{{- end }}
{{- with $streams }}
{{- toYaml . }}
{{- end }}
{{- end -}}
