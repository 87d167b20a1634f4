package node

import (
	"context"
	"encoding/json"
	"fmt"

	"drship/cmd/drship/control"
)

// verbShow answers with what is set up of a resource, as JSON; nothing where it is down.
func verbShow(_ context.Context, r *Resource, _ *control.Request) ([]string, error) {
	s := r.running()
	if s == nil {
		return nil, nil
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("show %s: %w", r.name, err)
	}
	return []string{string(raw)}, nil
}
