package controlplane

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Node returns the node of that name. It makes it where there is none.
func (c *ControlPlane) Node(ctx context.Context, name string) (*corev1.Node, error) {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	nodes := client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		node, err = nodes.Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("make node %q: %w", name, err)
	}
	return node, nil
}

// PodClient returns a client as a pod of that service account on that node has it: its token is bound to the pod, and so
// names the node, and its UID where there is a node object. The service account is made where there is none; its
// namespace must be there.
func (c *ControlPlane) PodClient(ctx context.Context, namespace, serviceAccount, node string) (*rest.Config, error) {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	accounts := client.CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: serviceAccount}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("make service account %q: %w", serviceAccount, err)
	}
	pod, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: serviceAccount + "-"},
		Spec: corev1.PodSpec{
			ServiceAccountName: serviceAccount,
			NodeName:           node,
			Containers:         []corev1.Container{{Name: "c", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("make pod: %w", err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if request, err = accounts.CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("request token: %w", err)
	}
	return c.TokenClient(request.Status.Token), nil
}

// TokenClient returns a client that has nothing but that token.
func (c *ControlPlane) TokenClient(token string) *rest.Config {
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = token
	config.QPS = -1
	return config
}
