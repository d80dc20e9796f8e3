{{/* Names are at most 63 characters; 14 are left for a component. */}}
{{- define "containerhook.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 49 | trimSuffix "-" }}
{{- end }}

{{- define "containerhook.fullname" -}}
{{- $name := include "containerhook.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 49 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 49 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "containerhook.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "containerhook.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects the pods of a component: (list . "agent"). It must never change, or upgrades fail. */}}
{{- define "containerhook.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "containerhook.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Name and labels of an object of a component: (list . "agent"). */}}
{{- define "containerhook.metadata" -}}
{{- $root := first . -}}
name: {{ include "containerhook.fullname" $root }}-{{ last . }}
labels:
  {{- include "containerhook.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "containerhook.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image }}
{{- .repository }}:{{ $tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a component's pods: (list . "agent" .Values.agent). */}}
{{- define "containerhook.podMetadata" -}}
{{- $root := first . -}}
{{- $own := last . -}}
annotations:
  kubectl.kubernetes.io/default-container: {{ index . 1 }}
  {{- with $own.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  {{- include "containerhook.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
  {{- with $own.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where a component's pods run: .Values.agent or .Values.controller. */}}
{{- define "containerhook.placement" -}}
priorityClassName: {{ .priorityClassName | quote }}
nodeSelector:
  {{- toYaml .nodeSelector | nindent 2 }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Probes of the controller. */}}
{{- define "containerhook.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* What would fail later, and say less. Nothing is known of the cluster in `helm template`: then it checks values. */}}
{{- define "containerhook.check" -}}
{{- if not (hasKey .Values.runtimeDirs .Values.distribution) }}
{{- fail (printf "distribution %q is none of %s; add it to runtimeDirs" .Values.distribution (keys .Values.runtimeDirs | sortAlpha | join ", ")) }}
{{- end }}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace | default dict }}
{{- $enforced := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" $namespace }}
{{- if ne $enforced "privileged" }}
{{- fail (printf `namespace %s enforces the pod security standard %q, and the agent needs more: host paths and four capabilities. Allow it there, or install into a namespace of its own:

    kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged
` .Release.Namespace $enforced .Release.Namespace) }}
{{- end }}
{{- end }}

{{/* The objects of a file that is config/'s, with the names, the namespace and the labels of the release, and with
annotations: (list . "files/rbac/agent.yaml" (dict)). */}}
{{- define "containerhook.config" -}}
{{- $root := index . 0 }}
{{- $annotations := index . 2 }}
{{- $text := $root.Files.Get (index . 1) | required (printf "no file %s" (index . 1)) }}
{{- $text = regexReplaceAll "\\bcontainerhook-system\\b" $text "\x00" }}
{{- $text = regexReplaceAll "\\bcontainerhook-" $text (printf "%s-" (include "containerhook.fullname" $root)) }}
{{- $text = replace "\x00" $root.Release.Namespace $text }}
{{- range regexSplit "(?m)^---$" $text -1 }}
{{- $object := fromYaml . }}
{{- if $object }}
{{- $metadata := $object.metadata }}
{{- $_ := set $metadata "labels" (merge (include "containerhook.labels" $root | fromYaml) ($metadata.labels | default dict)) }}
{{- with merge (deepCopy $annotations) ($metadata.annotations | default dict) }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
