package lease

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// BlindKeyPlace binds the blind-index key on its way to the server that asked for
// it: a value that a worker sealed to the same server is never taken for it.
func BlindKeyPlace(server id.Node) []byte {
	return seal.Tuple(nil, []byte("blind-key/1"), server[:])
}
