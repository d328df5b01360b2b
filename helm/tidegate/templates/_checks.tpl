{{- /* What the schema of the Gateway refuses by its rules, refused before anything is changed: in an
upgrade the Gateway comes last, when settings and pods are already new. The sentences are those of the
rules; a test has a case for each. */ -}}
{{- define "tidegate.checks" -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor and monitoring.serviceMonitor exclude each other: with both, each pod would be scraped and counted twice" -}}
{{- end -}}
{{- if .Values.operator.enabled -}}
{{- include "tidegate.checks.scaling" . -}}
{{- include "tidegate.checks.streams" . -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled and operator.enabled exclude each other, since only one may set the number of pods: set scaling.mode to hpa, and the operator creates the HorizontalPodAutoscaler" -}}
{{- end -}}
{{- else if .Values.autoscaling.enabled -}}
{{- if not (kindIs "invalid" .Values.gateway.replicas) -}}
{{- fail "autoscaling.enabled and gateway.replicas exclude each other: the HorizontalPodAutoscaler sets the number of pods" -}}
{{- end -}}
{{- if not (or .Values.autoscaling.targetCPUUtilizationPercentage .Values.autoscaling.metrics) -}}
{{- fail "autoscaling.enabled needs autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics" -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas must be at most autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.checks.scaling" -}}
{{- $s := .Values.scaling | default dict -}}
{{- $min := dig "min" 2 $s | int -}}
{{- $max := dig "max" 10 $s | int -}}
{{- if gt $min $max -}}
{{- fail (printf "scaling.min must be at most scaling.max (they are %d and %d)" $min $max) -}}
{{- end -}}
{{- range $n, $window := dig "schedule" list $s -}}
{{- if $window.max -}}
{{- if gt (int $window.min) (int $window.max) -}}
{{- fail (printf "scaling.schedule[%d]: min must be at most max" $n) -}}
{{- end -}}
{{- else if gt (int $window.min) $max -}}
{{- fail (printf "scaling.schedule: min of a window without a max must be at most scaling.max (scaling.schedule[%d], %d)" $n $max) -}}
{{- end -}}
{{- end -}}
{{- if lt (add (dig "up" "tolerancePercent" 5 $s | int) (dig "down" "tolerancePercent" 20 $s | int)) 5 -}}
{{- fail "scaling.up.tolerancePercent and scaling.down.tolerancePercent must add up to 5 or more: without a band between them the number of pods would oscillate" -}}
{{- end -}}
{{- $mode := dig "mode" "internal" $s -}}
{{- if and (eq $mode "hpa") (not (dig "hpa" "cpuPercent" 0 $s)) (not (dig "hpa" "external" list $s)) -}}
{{- fail "scaling.hpa needs cpuPercent or an external metric in mode hpa" -}}
{{- end -}}
{{- if and (eq $mode "keda") (not (dig "keda" "triggers" list $s)) -}}
{{- fail "scaling.keda needs a trigger in mode keda" -}}
{{- end -}}
{{- if and (has $mode (list "hpa" "keda")) .Release.IsUpgrade (not (kindIs "invalid" .Values.gateway.replicas)) (.Capabilities.APIVersions.Has "tidegate.dev/v1alpha1") -}}
{{- $live := lookup "tidegate.dev/v1alpha1" "Gateway" (include "tidegate.namespace" .) (include "tidegate.fullname" .) -}}
{{- $replicas := dig "spec" "replicas" -1 $live | int -}}
{{- if and (eq (dig "spec" "scaling" "mode" "" $live) $mode) (ne $replicas (int .Values.gateway.replicas)) -}}
{{- fail (printf "gateway.replicas: replicas has no effect in modes hpa and keda: change scaling.min and scaling.max%s" (ternary "" (printf ", and leave gateway.replicas at %d" $replicas) (lt $replicas 0))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.checks.streams" -}}
{{- $s := .Values.streams | default dict -}}
{{- $prefix := include "tidegate.streams.prefix" . -}}
{{- if not (regexMatch "^[A-Za-z0-9_.:@~+=/#-]{4,128}$" $prefix) -}}
{{- fail "settings.redis.key_prefix: the operator sweeps prefixes of 4 to 128 characters, letters, digits and _.:@~+=/#- only, since a shorter one soon matches what others keep in the same Redis: take another one, or set operator.enabled to false" -}}
{{- end -}}
{{- if not (regexMatch "^[!-~]{1,128}$" (include "tidegate.streams.group" .)) -}}
{{- fail "settings.redis.group: the operator takes groups of 1 to 128 printable ASCII characters without spaces" -}}
{{- end -}}
{{- range $own := list "tidegate:" "tidegate/" -}}
{{- if or (hasPrefix $prefix $own) (hasPrefix $own $prefix) -}}
{{- fail "streams.prefix must not cover keys that the gateway keeps for itself (tidegate: and tidegate/): use another prefix for streams" -}}
{{- end -}}
{{- end -}}
{{- include "tidegate.checks.ttl" (list "streams.ttl" (dig "ttl" dict $s)) -}}
{{- range $n, $override := dig "overrides" list $s -}}
{{- include "tidegate.checks.ttl" (list (printf "streams.overrides[%d]" $n) $override) -}}
{{- if not (hasPrefix $prefix $override.prefix) -}}
{{- fail (printf "streams.overrides: each prefix must begin with streams.prefix, otherwise it would match nothing (%s does not begin with %s)" $override.prefix $prefix) -}}
{{- end -}}
{{- end -}}
{{- if gt (dig "memory" "warnPercent" 75 $s | int) (dig "memory" "actPercent" 90 $s | int) -}}
{{- fail "streams.memory.warnPercent must be at most streams.memory.actPercent" -}}
{{- end -}}
{{- end -}}

{{- /* (list "streams.ttl" times) */ -}}
{{- define "tidegate.checks.ttl" -}}
{{- $times := index . 1 -}}
{{- $path := index . 0 -}}
{{- range $name := list "finishedS" "failedS" "idleS" "orphanS" -}}
{{- $seconds := dig $name 0 $times | int64 -}}
{{- if and (ne $seconds 0) (lt $seconds 60) -}}
{{- fail (printf "%s: %s must be 60 or more, or 0 to keep such streams" $path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
