package wire

import "github.com/bulkheadhq/bulkhead/internal/seal"

// Place is the associated data of the sealed [CodeCall]: it belongs to this call of this execution.
func (m *SandboxRun) Place() []byte {
	return seal.Tuple(nil, []byte("code call/1"), m.Execution[:], seal.Uint(m.Fence), seal.Uint(m.Call))
}

// Place is the associated data of the sealed [CodeResult]: it answers this call of this execution.
func (m *SandboxResult) Place() []byte {
	return seal.Tuple(nil, []byte("code result/1"), m.Execution[:], seal.Uint(m.Fence), seal.Uint(m.Call))
}
