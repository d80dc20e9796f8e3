package e2e

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func selectorOf(pod corev1.PodTemplateSpec) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: pod.Labels}
}

// deployment has two pods.
func deployment(pod corev1.PodTemplateSpec) client.Object {
	return &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: new(int32(2)), Selector: selectorOf(pod), Template: pod}}
}

func statefulSet(pod corev1.PodTemplateSpec) client.Object {
	return &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32(2)), Selector: selectorOf(pod), Template: pod}}
}

func daemonSet(pod corev1.PodTemplateSpec) client.Object {
	return &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: selectorOf(pod), Template: pod}}
}

// cronJob starts one each minute.
func cronJob(pod corev1.PodTemplateSpec) client.Object {
	return &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: jobSpec(pod)}}}
}

func job(pod corev1.PodTemplateSpec) client.Object {
	return &batchv1.Job{Spec: jobSpec(pod)}
}

// jobSpec tries once.
func jobSpec(pod corev1.PodTemplateSpec) batchv1.JobSpec {
	return batchv1.JobSpec{BackoffLimit: new(int32), Template: pod}
}

func withInits(spec corev1.PodSpec, inits ...corev1.Container) corev1.PodSpec {
	spec.InitContainers = inits
	return spec
}

// sidecarOf is an init container that runs beside the others.
func sidecarOf(name, line string) corev1.Container {
	c := containerOf(name, line)
	always := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}
