package openapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/jail"
)

// Limits of the child process that parses a document.
const (
	DefaultMemory = 512 << 20 // bytes of its heap
	DefaultCPU    = 60 * time.Second
	DefaultWait   = 120 * time.Second // for its answer
)

// Reader imports documents in child processes that have no network, no file, no key, and bounded memory and time. A child
// that crashes or hangs is an error. The zero Reader is ready to use; it is safe for concurrent use.
type Reader struct {
	Memory int64         // bytes of a child's heap; zero: DefaultMemory
	CPU    time.Duration // zero: DefaultCPU
	Wait   time.Duration // zero: DefaultWait
}

// ErrLost is wrapped by the error about a child that ended or did not answer in time.
var ErrLost = errors.New("the process that read the document was lost")

// Import makes a draft manifest of a document, as [Import] does, and adds what the strict judge says of it. What the child
// answers is checked: the digest, the tier and the hosts that are shown are made here.
func (r *Reader) Import(ctx context.Context, document []byte, o Options) (*Result, error) {
	if len(document) > MaxDocument {
		return nil, &LimitError{"bytes", MaxDocument}
	}
	side, err := readSide(o.Side, o.SideName) // the user's own, with places that the user knows
	if err != nil {
		return nil, err
	}
	a, err := r.ask(ctx, request{Options: o}, document)
	if err != nil {
		return nil, err
	}
	if a.Error != "" || a.Result == nil {
		return nil, errors.New(clip(a.Error, maxError))
	}
	o.Vendor = append(o.Vendor[:len(o.Vendor):len(o.Vendor)], side.Vendor...)
	result, err := checked(a.Result, document, o)
	if err != nil {
		return nil, err
	}
	judged, err := r.ask(ctx, request{Strict: true}, document)
	switch {
	case errors.Is(err, ErrLost):
		result.Notes = append(result.Notes, "the strict judge of the specification did not finish: "+clip(err.Error(), maxTitle))
	case err != nil:
		return nil, err
	default:
		result.add(judged)
	}
	return result, nil
}

const maxError = 16 << 10

// add joins what the judge found.
func (r *Result) add(judged *answer) {
	if judged.Error != "" {
		r.Notes = append(r.Notes, "the strict judge of the specification refuses the document: "+line(judged.Error, maxDescription))
	}
	for _, v := range judged.Violations {
		r.Broken++
		if len(r.Violations) < MaxViolations {
			r.Violations = append(r.Violations, Violation{At: line(v.At, maxDescription), Message: line(v.Message, maxDescription)})
		}
	}
}

// checked refuses an answer that an honest child does not give.
func checked(r *Result, document []byte, o Options) (*Result, error) {
	m, err := r.Connector()
	if err != nil {
		return nil, fmt.Errorf("check what was read: %w", err)
	}
	sum := sha256.Sum256(document)
	if digest := hex.EncodeToString(sum[:]); r.SHA256 != digest || m.Provenance.SHA256 != digest || m.Provenance.Kind != provenanceKind || m.Tier != connector.TierImported {
		return nil, errors.New("check what was read: it is not of this document")
	}
	if err := m.CheckAuth(); err != nil {
		return nil, fmt.Errorf("check what was read: %w", err)
	}
	r.Hosts = named(m, o)
	return r, nil
}

func (r *Reader) ask(ctx context.Context, q request, document []byte) (*answer, error) {
	head, err := json.Marshal(&q)
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	memory, cpu, wait := r.Memory, r.CPU, r.Wait
	if memory == 0 {
		memory = DefaultMemory
	}
	if cpu == 0 {
		cpu = DefaultCPU
	}
	if wait == 0 {
		wait = DefaultWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p, _, err := jail.StartRole(jail.RoleStart{
		Name: "bulkhead-reader",
		Args: []string{ChildCommand, strconv.FormatInt(memory, 10), strconv.FormatInt(int64(cpu/time.Second), 10)},
		Env: []string{
			"GOMAXPROCS=1", "GOTRACEBACK=none", "GOMEMLIMIT=" + strconv.FormatInt(memory, 10),
			"GODEBUG=containermaxprocs=0,updatemaxprocs=0," + jail.SteadyMonitor,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start the process that reads documents: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	a, err := exchange(p, head, document)
	stop()
	_ = p.Kill()
	exit := p.Wait()
	_ = p.Conn.Close()
	if err != nil {
		switch {
		case ctx.Err() != nil && exit.Reason == jail.ReasonKilled:
			err = fmt.Errorf("%w: it did not answer within %s", ErrLost, wait)
		case exit.Reason == jail.ReasonMemory:
			err = fmt.Errorf("%w: it needed more than %d MiB of memory", ErrLost, memory>>20)
		case exit.Reason == jail.ReasonCPU:
			err = fmt.Errorf("%w: it needed more than %s of processor time", ErrLost, cpu)
		default:
			err = fmt.Errorf("%w: %s (%w)", ErrLost, exit.Reason, err)
		}
	}
	return a, err
}

func exchange(p *jail.Process, head, document []byte) (*answer, error) {
	if err := writeFrame(p.Conn, head); err != nil {
		return nil, err
	}
	if err := writeFrame(p.Conn, document); err != nil {
		return nil, err
	}
	b, err := readFrame(p.Conn, maxAnswer)
	if err != nil {
		return nil, err
	}
	a := &answer{}
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return a, nil
}
