//go:build !linux || (!amd64 && !arm64)

package jail

import (
	"context"
	"os"
	"runtime"
)

// SpawnerConfig is empty on systems without jails.
type SpawnerConfig struct {
	Worker, Sandbox             []byte
	WorkerLimits, SandboxLimits Limits
	GCPercent                   int
	FirstUID                    uint32
	MaxChildren                 int
	GroupMemory                 int64
	Full                        bool
}

// RoleStart says how to start a role; see the Linux documentation of each field.
type RoleStart struct {
	Name           string
	Args           []string
	Env            []string
	UID, GID       uint32
	Stdout, Stderr *os.File
	Children       bool
	FirstUID       uint32
	MaxChildren    int
}

// Trim does nothing: there is no start of a role.
func Trim() error { return nil }

// StartRole fails with [ErrUnsupported].
func StartRole(RoleStart) (*Process, Report, error) { return nil, Report{}, ErrUnsupported }

// Probe reports one missing layer: the operating system.
func Probe() []Layer {
	return []Layer{{Name: "kernel", Required: true, State: StateMissing, Detail: runtime.GOOS, Fix: ErrUnsupported.Error()}}
}

// Spawner cannot be made on this system.
type Spawner struct{}

// Process cannot be made on this system.
type Process struct {
	Conn *os.File
	PID  int
}

// Lockdown fails with [ErrUnsupported].
func Lockdown(Profile) (Report, error) { return Report{}, ErrUnsupported }

// NewSpawner fails with [ErrUnsupported].
func NewSpawner(SpawnerConfig) (*Spawner, Report, error) { return nil, Report{}, ErrUnsupported }

// Start fails with [ErrUnsupported].
func (*Spawner) Start(context.Context, Kind) (*Process, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Spawner) Close() error { return nil }

// Kill fails with [ErrUnsupported].
func (*Process) Kill() error { return ErrUnsupported }

// Wait returns the zero Exit.
func (*Process) Wait() Exit { return Exit{} }

// Conn fails with [ErrUnsupported].
func Conn() (*os.File, error) { return nil, ErrUnsupported }
