{{- /* A file of rules, about the series of this release only, so that several releases may each bring
them, and one that is absent is told when another is there: (list $ "files/rules/alerts.yaml") */ -}}
{{- define "tidegate.rules" -}}
{{- $ := index . 0 -}}
{{- $file := $.Files.Get (index . 1) | fromYaml -}}
{{- $ours := printf "namespace=%q,release=%q" (include "tidegate.namespace" $) $.Release.Name -}}
{{- range $file.groups -}}
{{- range .rules -}}
{{- /* Every metric gets a selector, and the one that it may have had goes into that. */ -}}
{{- $expr := regexReplaceAll `\b((?:release:)?tidegate_[a-z0-9_:]+)` .expr (printf "${1}{%s}" $ours) -}}
{{- $_ := set . "expr" (replace (printf "%s}{" $ours) (printf "%s," $ours) $expr) -}}
{{- with .annotations -}}
{{- $_ := set . "runbook_url" (print $.Values.monitoring.prometheusRule.runbookBase .runbook_url) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
