// Package role builds each role from the packages below, runs it and locks it
// down; and it is the supervisor that starts them.
//
// The supervisor starts every role as a process of its own from this same
// executable, with one inherited socket. Over it, in frames of package wire:
//
//	role → supervisor   Hello        the keys it made
//	supervisor → vault  VaultStart   the root secret, once
//	vault → supervisor  VaultReady   the authority, the bus's operator and account
//	supervisor → vault  Enroll       for each role; the vault answers Enrolled
//	supervisor → role   Start        its identity, its peers, the bus, its settings
//	role → supervisor   Ready        it serves and is locked down
//	supervisor → role   Stop         drain and exit
//
// and from then on, until the role stops:
//
//	supervisor → role   Peers        who joined and left, and the bus's new pin
//	supervisor → role   Enrolled     its identity, renewed
//	supervisor → vault  Enroll, Retire
//	supervisor → server Health, Drain, Certificate
//
// All roles start at once; the vault and then the bus are what the others wait for.
// A role that cannot start sends an Error frame whose text says what to do. A role
// whose supervisor is gone exits.
//
// # States of a seat
//
// Each role has a seat, which one goroutine of the supervisor keeps filled:
//
//	down ─► starting ─► up ─► down (the process ended; after a rest it is started again)
//	           │  ▲
//	           ▼  │
//	          sealed (the vault only: a person must give the root secret)
//
// The address of the bus and the socket for the outside outlive the processes that use
// them. With temporary state nothing is started again: [Supervisor.Ended] says what ended.
//
// One file per role: what it is built from, what it keeps after its lock-down.
package role

import "errors"

// errAlone is what a role says when it is started by hand.
var errAlone = errors.New("a role is started by bulkhead itself: use bulkhead up or bulkhead run")

// ErrSealed means that the root secret is not at hand: a person must give it.
var ErrSealed = errors.New("the vault is sealed: run bulkhead unseal")
