package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Stored returns what etcd has stored at key, as it is: for a custom resource JSON, such as that at
// /registry/containerhook.io/nodecontainers/NAME. It is empty where there is nothing.
func (c *ControlPlane) Stored(ctx context.Context, key string) (string, error) {
	body, err := json.Marshal(map[string][]byte{"key": []byte(key)})
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.EtcdURL+"/v3/kv/range", bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("read %q: %w", key, err)
	}
	defer response.Body.Close()
	var answer struct{ KVs []struct{ Value []byte } }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("decode answer: %w", err)
	}
	if len(answer.KVs) == 0 {
		return "", nil
	}
	return string(answer.KVs[0].Value), nil
}
