package role

import "github.com/bulkheadhq/bulkhead/internal/children"

func childImages() (worker, sandbox []byte, err error) {
	if worker, err = children.Worker(); err != nil {
		return nil, nil, err
	}
	sandbox, err = children.Sandbox()
	return worker, sandbox, err
}
