package drift

import corev1 "k8s.io/api/core/v1"

// Asked is as much of a pod's spec as Differences reads, and the name of its node.
func Asked(spec *corev1.PodSpec) corev1.PodSpec {
	asked := corev1.PodSpec{
		NodeName: spec.NodeName, HostNetwork: spec.HostNetwork, HostPID: spec.HostPID, HostIPC: spec.HostIPC,
		HostUsers: spec.HostUsers,
	}
	if s := spec.SecurityContext; s != nil {
		asked.SecurityContext = &corev1.PodSecurityContext{RunAsUser: s.RunAsUser, RunAsNonRoot: s.RunAsNonRoot}
	}
	for _, c := range spec.InitContainers {
		asked.InitContainers = append(asked.InitContainers, askedOf(c))
	}
	for _, c := range spec.Containers {
		asked.Containers = append(asked.Containers, askedOf(c))
	}
	for _, e := range spec.EphemeralContainers {
		common := corev1.EphemeralContainerCommon(askedOf(corev1.Container(e.EphemeralContainerCommon)))
		asked.EphemeralContainers = append(asked.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: common})
	}
	for _, v := range spec.Volumes {
		asked.Volumes = append(asked.Volumes, corev1.Volume{Name: v.Name, VolumeSource: askedFrom(v.VolumeSource)})
	}
	return asked
}

func askedOf(c corev1.Container) corev1.Container {
	return corev1.Container{
		Name: c.Name, Image: c.Image, SecurityContext: c.SecurityContext, VolumeMounts: c.VolumeMounts,
		Resources: corev1.ResourceRequirements{Limits: extended(c.Resources.Limits), Claims: c.Resources.Claims},
	}
}

// askedFrom has of a claim only that there is one.
func askedFrom(v corev1.VolumeSource) corev1.VolumeSource {
	asked := corev1.VolumeSource{HostPath: v.HostPath, Image: v.Image}
	if v.PersistentVolumeClaim != nil {
		asked.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{}
	}
	if v.Ephemeral != nil {
		asked.Ephemeral = &corev1.EphemeralVolumeSource{}
	}
	return asked
}
