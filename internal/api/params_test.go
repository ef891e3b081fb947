package api

import "github.com/danielgtaylor/huma/v2"

// opParams are the parameters of an operation.
type opParams struct{ path []string }

func params(op *huma.Operation) *opParams {
	if op == nil {
		return nil
	}
	out := &opParams{}
	for _, p := range op.Parameters {
		if p.In == "path" {
			out.path = append(out.path, p.Name)
		}
	}
	return out
}
