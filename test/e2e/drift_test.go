package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// A pod may ask for much. What it gets of that is no difference.
func TestAContainerThatHasWhatItsPodAsksForMatchesItsSpec(t *testing.T) {
	beside(t)
	settings := create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "settings-", Namespace: namespace},
		Data: map[string]string{"a": "b"}})
	for name, ask := range map[string]func(*corev1.PodSpec, *corev1.Container){
		"nothing": func(*corev1.PodSpec, *corev1.Container) {},
		"namespaces of the node": func(p *corev1.PodSpec, _ *corev1.Container) {
			p.HostNetwork, p.HostPID, p.HostIPC = true, true, true
		},
		"capabilities": func(_ *corev1.PodSpec, c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
				Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"SYS_ADMIN", "NET_ADMIN"}}}
		},
		"a user and a root that is not written to": func(p *corev1.PodSpec, c *corev1.Container) {
			p.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), RunAsNonRoot: new(true), FSGroup: new(int64(2000))}
			c.SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}
		},
		"volumes": func(p *corev1.PodSpec, c *corev1.Container) {
			p.Volumes = []corev1.Volume{
				{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}},
				{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: settings.Name}}}},
			}
			c.VolumeMounts = []corev1.VolumeMount{
				{Name: "node", MountPath: "/node", ReadOnly: true},
				{Name: "node", MountPath: "/default", SubPath: "default"},
				{Name: "empty", MountPath: "/empty"},
				{Name: "settings", MountPath: "/settings"},
				{Name: "settings", MountPath: "/a", SubPath: "a"},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf("asks", "", forever)
			ask(&pod.Spec, &pod.Spec.Containers[0])
			create(t, pod)
			eventually(t, 2*time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
			eventually(t, matchedWithin, func(ctx context.Context) error { return specMatchedIs(ctx, pod, metav1.ConditionTrue, "") })
		})
	}
}

// drift is what a runtime makes of a container, and what is said of it.
type drift struct {
	edit string // of config.json, as sed -E knows it
	ask  func(*corev1.Container)
	says string
}

var driftsOf = map[string]drift{
	"privileged": {
		edit: `s/"CAP_CHOWN"/"CAP_CHOWN","CAP_SYS_ADMIN"/g; s/"maskedPaths":\[[^]]*\]/"maskedPaths":[]/; s/"readonlyPaths":\[[^]]*\]/"readonlyPaths":[]/; ` +
			`s/\{"allow":false,"access":"rwm"\}/{"allow":true,"access":"rwm"}/`,
		says: "it is privileged",
	},
	"capability": {edit: `s/"CAP_CHOWN"/"CAP_CHOWN","CAP_SYS_ADMIN"/g`, says: "it has SYS_ADMIN"},
	"mount": {
		edit: `s|"mounts":\[|"mounts":[{"destination":"/node","type":"bind","source":"/etc","options":["rbind","rw"]},|`,
		says: "/node is the node's /etc",
	},
	"namespace": {edit: `s|\{"type":"ipc","path":"[^"]*"\},?||`, says: "it has the node's IPC namespace"},
	"user": {
		edit: `s/"uid":1000/"uid":0/`,
		ask:  func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(1000))} },
		says: "its user is 0",
	},
	"root": {
		edit: `s/"readonly":true/"readonly":false/`,
		ask: func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}
		},
		says: "its root filesystem is writable",
	},
	"image": {
		edit: `s|("io.kubernetes.cri.image-name":")[^"]*"|\1docker.io/library/miner:latest"|`,
		says: "its image is docker.io/library/miner:latest",
	},
}

// The kubelet and containerd do as the pod asks, and the runtime that they call edits config.json before it reads it: the
// pod's status names the container, and its spec does not describe it.
func TestAContainerThatHasMoreThanItsPodAsksForDiffersFromItsSpec(t *testing.T) {
	needsOurNodes(t)
	beside(t)
	node := someNodes(t, 1)[0]
	var script strings.Builder
	for name, d := range driftsOf {
		// The sandbox of the pod passes there too.
		fmt.Fprintf(&script, "/\"io.kubernetes.cri.container-type\":\"container\"/{/\"io.kubernetes.cri.sandbox-name\":\"drift-%s-/{%s\n}}\n", name, d.edit)
	}
	onNode(t, node, "sh", "-c", `printf %s "$0" >/run/wrapped.sed`, script.String())
	t.Cleanup(func() { onNodeAtEnd(t, node, "rm", "-f", "/run/wrapped.sed") })
	class := create(t, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "wrapped-"}, Handler: "wrapped"})

	driftsOf["nothing"] = drift{} // of the same runtime
	for name, d := range driftsOf {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf("drift-"+name, node, forever)
			pod.Spec.RuntimeClassName = &class.Name
			if d.ask != nil {
				d.ask(&pod.Spec.Containers[0])
			}
			want := metav1.ConditionTrue
			if d.says != "" {
				want = metav1.ConditionFalse
				pod.Labels = map[string]string{drifts: ""}
			}
			create(t, pod)
			eventually(t, 2*time.Minute, func(ctx context.Context) error { return phaseIs(ctx, pod, corev1.PodRunning) })
			eventually(t, matchedWithin, func(ctx context.Context) error { return specMatchedIs(ctx, pod, want, d.says) })
			agree(t, node)
		})
	}
}

// specMatchedIs says where the container of a pod is not matched, or its SpecMatched is another one.
func specMatchedIs(ctx context.Context, pod *corev1.Pod, want metav1.ConditionStatus, says string) error {
	o, err := objectOf(ctx, idOf(pod.Status.ContainerStatuses[0].ContainerID))
	if err != nil {
		return err
	}
	if matched := conditionOf(o, v1alpha1.ConditionPodMatched); matched != isMatched {
		return fmt.Errorf("PodMatched is %q", matched)
	}
	got := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionSpecMatched)
	if got == nil || got.Status != want || !strings.Contains(got.Message, says) || says == "" && got.Message != "" {
		return fmt.Errorf("SpecMatched is %+v, not %s %q", got, want, says)
	}
	return nil
}

// Who starts a container past the kubelet can write into config.json that it is of a pod. The pod's status does not name
// it, and so no pod accounts for it, nor is it measured by that pod's spec.
func TestAContainerThatClaimsAPodIsNotMatchedByIt(t *testing.T) {
	needsOurNodes(t)
	release := beside(t)
	node := someNodes(t, 1)[0]
	pod, _ := startPod(t, node)
	shell, id := shellOn(t, node, "claims")
	claim := fmt.Sprintf(`"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "main",
		"io.kubernetes.cri.sandbox-namespace": %q, "io.kubernetes.cri.sandbox-name": %q, "io.kubernetes.cri.sandbox-uid": %q`,
		pod.Namespace, pod.Name, pod.UID)
	t.Cleanup(func() { shell(context.WithoutCancel(t.Context()), runcKill) })
	shell(t.Context(), runcSpec+`sed -i '1s|{|{"annotations": {`+strings.ReplaceAll(claim, "\n", " ")+`},|' config.json &&
		runc run --detach "$id" </dev/null >/dev/null 2>&1`)
	eventually(t, matchedWithin, func(ctx context.Context) error {
		o, err := objectOf(ctx, id)
		if err == nil && (o.Spec.Pod.UID != string(pod.UID) || o.Spec.Pod.Container != "main") {
			t.Fatalf("it claims %+v", o.Spec.Pod)
		}
		return err
	})

	release() // a kubelet has a minute to put a new container into its pod's status
	eventually(t, time.Minute+matchedWithin, func(ctx context.Context) error {
		o, err := objectOf(ctx, id)
		if err != nil {
			return err
		}
		matched := conditionOf(o, v1alpha1.ConditionPodMatched)
		if matched == isMatched {
			t.Fatalf("the pod accounts for it: %+v", o.Status.Conditions)
		}
		if matched != "False "+v1alpha1.ReasonNotInPodStatus {
			return fmt.Errorf("PodMatched is %q", matched)
		}
		return nil
	})
}
