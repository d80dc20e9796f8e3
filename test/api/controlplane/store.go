package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Entry is what etcd has at a key.
type Entry struct {
	Key   []byte
	Value []byte // as it is: of a custom resource JSON
	// Version is how often it was written since it was made, the first time counted.
	Version int64 `json:",string"`
}

// Stored returns what etcd has at key, such as /registry/containerhook.io/nodecontainers/NAME. It is empty where there is
// nothing.
func (c *ControlPlane) Stored(ctx context.Context, key string) (string, error) {
	found, err := c.entries(ctx, map[string][]byte{"key": []byte(key)})
	if err != nil || len(found) == 0 {
		return "", err
	}
	return string(found[0].Value), nil
}

// AllStored returns everything that etcd has at keys that begin with prefix.
func (c *ControlPlane) AllStored(ctx context.Context, prefix string) ([]Entry, error) {
	after := []byte(prefix)
	after[len(after)-1]++
	return c.entries(ctx, map[string][]byte{"key": []byte(prefix), "range_end": after})
}

func (c *ControlPlane) entries(ctx context.Context, of map[string][]byte) ([]Entry, error) {
	body, err := json.Marshal(of)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.EtcdURL+"/v3/kv/range", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", of["key"], err)
	}
	defer response.Body.Close()
	var answer struct{ KVs []Entry }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return answer.KVs, nil
}
