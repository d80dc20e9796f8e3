package agent

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// ownerFrom returns the owner of what the agent makes: its Node, so that the objects go with it. Who that is stands in
// the agent's token where that is bound to its pod (Kubernetes 1.32, ServiceAccountTokenPodNodeInfo); an agent may not
// read Nodes. None where the credentials do not say: then the controller alone removes the objects of a node that is
// gone. It is an error where they name another node, of which the API server would refuse every write.
func ownerFrom(config *rest.Config, node string) ([]metav1.OwnerReference, error) {
	token := config.BearerToken
	if config.BearerTokenFile != "" {
		raw, err := os.ReadFile(config.BearerTokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the agent's token: %w", err)
		}
		token = string(raw)
	}
	name, uid := nodeOfToken(token)
	switch {
	case name == "":
		return nil, nil
	case name != node:
		return nil, fmt.Errorf("the token is of an agent on node %q, and --node-name is %q: %w", name, node, errOtherNode)
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}}, nil
}

var errOtherNode = errors.New("every write would be refused")

// nodeOfToken reads the claims of a JSON Web Token (RFC 7519). Nothing is verified: the API server does that, and the
// token is our own.
func nodeOfToken(token string) (name string, uid types.UID) {
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return "", ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", ""
	}
	var claims struct {
		Kubernetes struct {
			Node struct {
				Name string    `json:"name"`
				UID  types.UID `json:"uid"`
			} `json:"node"`
		} `json:"kubernetes.io"`
	}
	if json.Unmarshal(raw, &claims) != nil || claims.Kubernetes.Node.UID == "" {
		return "", ""
	}
	return claims.Kubernetes.Node.Name, claims.Kubernetes.Node.UID
}
