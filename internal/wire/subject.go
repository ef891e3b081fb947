package wire

import (
	"fmt"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Role is a kind of process on the bus.
type Role string

// The roles that connect to the bus. The supervisor, workers and sandboxes do not.
const (
	RoleServer Role = "server"
	RoleVault  Role = "vault"
	RoleEgress Role = "egress"
	RoleRunner Role = "runner"
	RoleBus    Role = "bus"
)

// Roles are all roles that connect to the bus, in the order in which they start.
func Roles() []Role { return []Role{RoleVault, RoleServer, RoleEgress, RoleRunner} }

// Topic is what a message on the bus is about. With the two roles it decides who
// may send it.
type Topic string

// The topics.
const (
	TopicWork   Topic = "work"   // runner → server: Want, Append, Released, Progress, View, Reply, State, JournalGet, BlobWrite, BlobRead, ReadPage
	TopicAsk    Topic = "ask"    // runner → server, with an answer: DefinitionGet
	TopicUnit   Topic = "unit"   // server → runner: Dispatch, Appended, Cancel, Wake, StateResult, JournalPage, BlobChunk, Read
	TopicLease  Topic = "lease"  // runner → vault, with an answer: LeaseRequest
	TopicVault  Topic = "vault"  // server → vault, with an answer: VaultCall
	TopicCall   Topic = "call"   // runner → egress: LeaseGive, Call, LeaseDrop
	TopicAnswer Topic = "answer" // egress → runner: Answer
	TopicFlow   Topic = "flow"   // egress → server: FlowRecord, ConnectionStatus
	TopicBlob   Topic = "blob"   // egress → server: BlobWrite, BlobRead; server → egress: BlobChunk
	TopicToken  Topic = "token"  // egress → vault, with an answer: VaultCall
	TopicOrder  Topic = "order"  // server → egress, with an answer: Order
	TopicPause  Topic = "pause"  // egress → egress: Pause
)

// anyNode addresses whichever node of a role takes a message first.
const anyNode = "any"

// Subject is the subject of a message: role.node.topic.from. With a zero node any
// node of the role takes it. The sender is part of the subject, which the bus
// enforces, so a receiver knows who wrote to it.
func Subject(to Role, node id.Node, topic Topic, from id.Node) string {
	n := anyNode
	if !node.IsZero() {
		n = node.String()
	}
	return string(to) + "." + n + "." + string(topic) + "." + from.String()
}

// Inbox is the prefix of the private subjects on which a node gets answers.
func Inbox(node id.Node) string { return "_INBOX_" + node.String() }

// ParseSubject takes a subject apart. It fails for anything but what [Subject] makes.
func ParseSubject(s string) (to Role, topic Topic, from id.Node, err error) {
	part := strings.Split(s, ".")
	if len(part) != 4 {
		return "", "", id.Node{}, fmt.Errorf("%w: subject of %d parts", ErrMalformed, len(part))
	}
	if err := from.UnmarshalText([]byte(part[3])); err != nil || from.IsZero() {
		return "", "", id.Node{}, fmt.Errorf("%w: subject without a sender", ErrMalformed)
	}
	return Role(part[0]), Topic(part[2]), from, nil
}

// road is one allowed direction of one topic.
type road struct {
	from, to Role
	topic    Topic
	answered bool // the receiver may answer to the sender's inbox
}

// roads is the permission matrix of the bus (design section 3): what is not here
// is refused. The threat model says why each is needed.
func roads() []road {
	return []road{
		{RoleRunner, RoleServer, TopicWork, false},
		{RoleRunner, RoleServer, TopicAsk, true},
		{RoleServer, RoleRunner, TopicUnit, false},
		{RoleRunner, RoleVault, TopicLease, true},
		{RoleServer, RoleVault, TopicVault, true},
		{RoleRunner, RoleEgress, TopicCall, false},
		{RoleEgress, RoleRunner, TopicAnswer, false},
		{RoleEgress, RoleServer, TopicFlow, false},
		{RoleEgress, RoleServer, TopicBlob, false},
		{RoleServer, RoleEgress, TopicBlob, false},
		{RoleEgress, RoleVault, TopicToken, true},
		{RoleServer, RoleEgress, TopicOrder, true},
		{RoleEgress, RoleEgress, TopicPause, false},
	}
}

// Permissions are the subjects that one identity may use, in NATS syntax.
type Permissions struct {
	Publish   []string
	Subscribe []string
	Answers   bool // may publish to the reply subject of a message it received
}

// PermissionsOf is the row of the matrix for a node of a role.
func PermissionsOf(role Role, node id.Node) Permissions {
	p := Permissions{Subscribe: []string{Inbox(node) + ".>"}}
	for _, r := range roads() {
		if r.from == role {
			p.Publish = append(p.Publish, string(r.to)+".*."+string(r.topic)+"."+node.String())
		}
		if r.to == role {
			p.Answers = p.Answers || r.answered
		}
	}
	for _, n := range []string{anyNode, node.String()} {
		p.Subscribe = append(p.Subscribe, string(role)+"."+n+".*.*")
	}
	return p
}

// Allowed reports whether the matrix lets a node of role from send a topic to role to.
func Allowed(from, to Role, topic Topic) bool {
	for _, r := range roads() {
		if r.from == from && r.to == to && r.topic == topic {
			return true
		}
	}
	return false
}
