package wire

import "fmt"

// Type says what a frame holds.
type Type byte

// The types of frames. Numbers are part of the format and never change meaning.
const (
	TypeError Type = 1 + iota
	// Supervisor and roles, over the inherited control socket.
	TypeHello
	TypeVaultStart
	TypeVaultReady
	TypeEnroll
	TypeEnrolled
	TypeStart
	TypeReady
	TypeStop
	// Runner and worker, over the inherited socket.
	TypeWorkerHello
	TypeBind
	TypeBound
	TypeRenew
	TypeUnit
	TypeCancel
	TypeAppend
	TypeAppended
	TypeReleased
	TypeCall
	TypeAnswer
	TypeView
	TypeProgress
	TypeWake
	TypeState
	TypeStateResult
	TypeBlobWrite
	TypeBlobRead
	TypeBlobChunk
	TypeSandboxWant
	TypeSandboxReady
	TypeSandboxGone
	// Runner and sandbox, over the inherited pipe, relayed from and to the worker.
	TypeSandboxHello
	TypeSandboxOpen
	TypeSandboxRun
	TypeSandboxResult
	TypeSandboxClose
	// Runner and server.
	TypeWant
	TypeDispatch
	TypeDefinitionGet
	TypeDefinition
	TypeReply
	// Egress and server.
	TypeFlowRecord
	// Runner and vault, egress and vault.
	TypeLeaseRequest
	TypeLeaseGrant
	// Server and vault.
	TypeVaultCall
	TypeVaultAnswer
	TypeLeaseDrop
	TypeLeaseGive
	// Server and runner, runner and worker: reading what is stored.
	TypeRead
	TypeReadPage
	// Runner and worker, runner and server.
	TypeJournalGet
	TypeJournalPage
	// Supervisor and running roles, over the control socket.
	TypePeers
	TypeRetire
	TypeDrain
	TypeHealth
	TypeUnseal
	// After a connection to the bus was lost, to runners.
	TypeLost
	// Supervisor and server, over the control socket.
	TypeCertificate
	// Server and egress: the life of tokens.
	TypeOrder
	TypeOrderAnswer
	TypeConnectionStatus
	// Between egress nodes.
	TypePause
	typeEnd
)

var typeNames = [typeEnd]string{
	TypeError: "error", TypeHello: "hello", TypeVaultStart: "vault start", TypeVaultReady: "vault ready",
	TypeEnroll: "enroll", TypeEnrolled: "enrolled", TypeStart: "start", TypeReady: "ready", TypeStop: "stop",
	TypeWorkerHello: "worker hello", TypeBind: "bind", TypeBound: "bound", TypeRenew: "renew", TypeUnit: "unit",
	TypeCancel: "cancel", TypeAppend: "append", TypeAppended: "appended", TypeReleased: "released",
	TypeCall: "call", TypeAnswer: "answer", TypeView: "view", TypeProgress: "progress", TypeWake: "wake",
	TypeState: "state", TypeStateResult: "state result", TypeBlobWrite: "blob write", TypeBlobRead: "blob read",
	TypeBlobChunk: "blob chunk", TypeSandboxWant: "sandbox want", TypeSandboxReady: "sandbox ready",
	TypeSandboxGone: "sandbox gone", TypeSandboxHello: "sandbox hello", TypeSandboxOpen: "sandbox open",
	TypeSandboxRun: "sandbox run", TypeSandboxResult: "sandbox result", TypeSandboxClose: "sandbox close",
	TypeWant: "want", TypeDispatch: "dispatch", TypeDefinitionGet: "definition get", TypeDefinition: "definition",
	TypeReply: "reply", TypeFlowRecord: "flow record", TypeLeaseRequest: "lease request", TypeLeaseGrant: "lease grant",
	TypeVaultCall: "vault call", TypeVaultAnswer: "vault answer", TypeLeaseDrop: "lease drop", TypeLeaseGive: "lease give",
	TypeRead: "read", TypeReadPage: "read page",
	TypeJournalGet: "journal get", TypeJournalPage: "journal page",
	TypePeers: "peers", TypeRetire: "retire", TypeDrain: "drain", TypeHealth: "health", TypeUnseal: "unseal", TypeLost: "lost",
	TypeCertificate: "certificate",
	TypeOrder:       "order", TypeOrderAnswer: "order answer", TypeConnectionStatus: "connection status", TypePause: "pause",
}

// String names the type for errors.
func (t Type) String() string {
	if t < typeEnd && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("unknown (%d)", byte(t))
}

// Error answers a request that could not be served. Code is stable and lower-case;
// Message is for the operator and holds no payload.
type Error struct {
	Code    string
	Message string
}

// Walk implements [Message].
func (m *Error) Walk(c *Coder) {
	c.String(&m.Code)
	c.String(&m.Message)
}

// FrameType implements [Typed].
func (*Error) FrameType() Type { return TypeError }
