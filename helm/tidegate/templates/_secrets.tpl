{{- /* Secrets of the chart's own and of others: where a value comes from, and which values pods read. */ -}}

{{- /* "true" if this render can read from a cluster. Every namespace has that ConfigMap; one that
`--create-namespace` is about to make does not, and then the namespace `default` tells. */ -}}
{{- define "tidegate.seesCluster" -}}
{{- if or (lookup "v1" "ConfigMap" (include "tidegate.namespace" .) "kube-root-ca.crt") (lookup "v1" "Namespace" "" "default") -}}
true
{{- end -}}
{{- end -}}

{{- /* Data of a Secret that exists, as YAML; empty without a cluster: (list $ "name") */ -}}
{{- define "tidegate.existing" -}}
{{- $found := (lookup "v1" "Secret" (include "tidegate.namespace" (index . 0)) (index . 1)) | default dict -}}
{{- (get $found "data") | default dict | toYaml -}}
{{- end -}}

{{- /* The Secrets that the chart makes, as YAML: suffix of the name, component, key, and the value
that names another Secret instead. */ -}}
{{- define "tidegate.generated" -}}
{{- $all := list -}}
{{- if and (eq (include "tidegate.auth.keys" .) "secret") (not .Values.auth.existingSecret) -}}
{{- $all = append $all (dict "suffix" "auth" "component" "gateway" "key" .Values.auth.secretKey "value" "auth.existingSecret") -}}
{{- end -}}
{{- if and .Values.publish.enabled (not .Values.publish.existingSecret) -}}
{{- $all = append $all (dict "suffix" "publish" "component" "gateway" "key" .Values.publish.secretKey "value" "publish.existingSecret") -}}
{{- end -}}
{{- if and (include "tidegate.redis.builtIn" .) (not .Values.valkey.existingSecret) -}}
{{- $all = append $all (dict "suffix" "valkey" "component" "valkey" "key" .Values.valkey.passwordKey "value" "valkey.existingSecret") -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{- /* The base64 of a generated value: that of the Secret if there is one, or a new one, which is the
same in all templates of a render: (list $ "name of the Secret" "key") */ -}}
{{- define "tidegate.made" -}}
{{- $ := index . 0 -}}
{{- $id := printf "%s/%s" (index . 1) (index . 2) -}}
{{- $made := (get $.Values "made") | default dict -}}
{{- if not (hasKey $made $id) -}}
{{- $found := include "tidegate.existing" (list $ (index . 1)) | fromYaml -}}
{{- $made = set $made $id (get $found (index . 2) | default (randAlphaNum 40 | b64enc)) -}}
{{- $_ := set $.Values "made" $made -}}
{{- end -}}
{{- get $made $id -}}
{{- end -}}

{{- /* A checksum of Secrets that pods read at their start, for an annotation: (list $ "auth" "redis").
Without a cluster it covers their names only. */ -}}
{{- define "tidegate.secretsChecksum" -}}
{{- $ := index . 0 -}}
{{- $read := list -}}
{{- if has "auth" . -}}
{{- if eq (include "tidegate.auth.keys" $) "secret" -}}
{{- $read = append $read (list (include "tidegate.auth.secretName" $) $.Values.auth.secretKey) -}}
{{- with $.Values.auth.previousSecretKey -}}
{{- $read = append $read (list (include "tidegate.auth.secretName" $) .) -}}
{{- end -}}
{{- end -}}
{{- if $.Values.publish.enabled -}}
{{- $read = append $read (list (include "tidegate.publish.secretName" $) $.Values.publish.secretKey) -}}
{{- end -}}
{{- with $.Values.admin.existingSecret -}}
{{- $read = append $read (list . $.Values.admin.secretKey) -}}
{{- end -}}
{{- end -}}
{{- with include "tidegate.redis.passwordSecret" $ -}}
{{- $read = append $read (list . (include "tidegate.redis.passwordKey" $)) -}}
{{- end -}}
{{- with $.Values.redis.existingSecret -}}
{{- range list $.Values.redis.urlKey $.Values.redis.sentinelPasswordKey -}}
{{- if . -}}{{- $read = append $read (list $.Values.redis.existingSecret .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- with $.Values.redis.tls -}}
{{- if .secret -}}
{{- $secret := .secret -}}
{{- range list .caKey .certKey .keyKey -}}
{{- if . -}}{{- $read = append $read (list $secret .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $generated := dict -}}
{{- range include "tidegate.generated" $ | fromYamlArray -}}
{{- $_ := set $generated (printf "%s-%s" (include "tidegate.fullname" $) .suffix) true -}}
{{- end -}}
{{- $values := list -}}
{{- range $read -}}
{{- if hasKey $generated (index . 0) -}}
{{- $values = append $values (include "tidegate.made" (list $ (index . 0) (index . 1))) -}}
{{- else -}}
{{- $values = append $values (get (include "tidegate.existing" (list $ (index . 0)) | fromYaml) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- list $read $values | toJson | sha256sum -}}
{{- end -}}
