package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of one lease.
const (
	// LeaseRequests and LeaseBytes are the budget of an egress lease over its life,
	// bytes in both directions together.
	LeaseRequests = 100_000
	LeaseBytes    = 4 << 30

	maxSlots      = 64
	maxDays       = 64
	maxExecutions = 64
	maxViewers    = 32
	maxSlotName   = 128
	// maxTries is how often a lease is made anew when something that it uses was
	// changed meanwhile.
	maxTries = 3
)

// Lease grants the leases of a worker. Errors are [ErrRefused], [ErrBusy] or
// [ErrUnavailable].
func (v *Vault) Lease(ctx context.Context, m *wire.LeaseRequest) (*wire.LeaseGrant, error) {
	now := v.now()
	d, egress, err := checkRequest(m, v.Live, now)
	if err != nil {
		return nil, v.refuse(ctx, "lease", m.Runner, err)
	}
	if err = v.allow(m.Runner); err == nil {
		err = checkDispatch(d)
	}
	var grant *wire.LeaseGrant
	if err == nil {
		grant, err = v.granted(ctx, m, d, egress, now)
	}
	if err != nil {
		return nil, v.refuse(ctx, "lease", m.Runner, fmt.Errorf("lease for instance %s of customer %s: %w", d.Instance, d.Customer, err))
	}
	return grant, nil
}

// granted makes a lease for one of the leases that its dispatch gives.
func (v *Vault) granted(ctx context.Context, m *wire.LeaseRequest, d *lease.Dispatch, egress *lease.Identity, now time.Time) (grant *wire.LeaseGrant, err error) {
	runner, ok := v.member(d.Runner)
	if !ok {
		return nil, fmt.Errorf("%w: the runner is not live", ErrRefused)
	}
	back, err := runner.dispatches.take(d, now)
	if err != nil {
		return nil, err
	}
	grant, err = v.grant(ctx, m, d, egress, now)
	for try := 1; errors.Is(err, errChanged) && try < maxTries; try++ {
		grant, err = v.grant(ctx, m, d, egress, now)
	}
	if err != nil {
		back()
	}
	return grant, err
}

func checkRequest(m *wire.LeaseRequest, live lease.Identities, now time.Time) (*lease.Dispatch, *lease.Identity, error) {
	if off(signaturesAsked) {
		return believe(m, live)
	}
	return lease.CheckRequest(m, live, now)
}

func checkDispatch(d *lease.Dispatch) error {
	if len(d.Slots) > maxSlots || len(d.Days) > maxDays || len(d.Executions) > maxExecutions || len(d.Viewers) > maxViewers {
		return fmt.Errorf("%w: the dispatch is over a limit", ErrRefused)
	}
	seen := make(map[string]bool, len(d.Slots))
	for _, s := range d.Slots {
		if s.Name == "" || len(s.Name) > maxSlotName || seen[s.Name] {
			return fmt.Errorf("%w: a slot without a name, or two of one name", ErrRefused)
		}
		seen[s.Name] = true
	}
	return nil
}

// draft is a lease that is being made, with everything it was made from.
type draft struct {
	request  *wire.LeaseRequest
	dispatch *lease.Dispatch
	worker   lease.Worker
	egress   lease.Egress
}

// wipe overwrites the keys and credentials of a draft.
func (d *draft) wipe() {
	clear(d.worker.InstanceKey)
	clear(d.worker.IdempotencyKey)
	clear(d.worker.Channel)
	for _, p := range d.worker.Payload {
		clear(p.Private)
	}
	for _, s := range d.egress.Slots {
		for _, f := range s.Record.Fields {
			clear(f.Secret)
		}
	}
}

// grant makes a lease, commits its leaves and returns it. errChanged means that
// something it uses was changed before the commit.
func (v *Vault) grant(ctx context.Context, m *wire.LeaseRequest, dis *lease.Dispatch, egress *lease.Identity, now time.Time) (*wire.LeaseGrant, error) {
	d := &draft{request: m, dispatch: dis}
	defer d.wipe()
	if err := v.draft(ctx, d, egress, now); err != nil {
		return nil, err
	}
	worker, err := lease.SealWorker(m.Worker, &d.worker)
	if err != nil {
		return nil, fmt.Errorf("%w: worker's key: %w", ErrRefused, err)
	}
	var out []byte
	if egress != nil {
		if out, err = lease.SealEgress(v.authority, egress.Seal, &d.egress); err != nil {
			return nil, err
		}
	}
	if !off(leafFirst) {
		if err := v.store.Write(ctx, func(tx *keystore.Tx) error { return v.commit(tx, d) }); err != nil {
			return nil, err
		}
	}
	return &wire.LeaseGrant{Lease: d.worker.Lease, Expires: d.worker.Expires, Worker: worker, Egress: out}, nil
}

func (v *Vault) draft(ctx context.Context, d *draft, egress *lease.Identity, now time.Time) error {
	dis := d.dispatch
	server, ok := v.Live(dis.Server)
	if !ok {
		return fmt.Errorf("%w: the server is not live", ErrRefused)
	}
	runner, ok := v.Live(dis.Runner)
	if !ok {
		return fmt.Errorf("%w: the runner is not live", ErrRefused)
	}
	d.worker = lease.Worker{
		Lease: id.NewLease(now), Customer: dis.Customer, Instance: dis.Instance, Definition: dis.Definition, ConfigVersion: dis.ConfigVersion,
		Expires: expiry(now, dis.Days, runner.Expires), ServerKey: server.Seal, Viewers: dis.Viewers,
		CallbackBase: dis.CallbackBase, Read: dis.Read,
	}
	if egress != nil {
		if err := v.draftEgress(ctx, d, egress); err != nil {
			return err
		}
	}
	if err := v.draftInstance(ctx, d); err != nil {
		return err
	}
	return v.draftDays(ctx, d)
}

// draftEgress adds the channel, and the half with the credentials. A read has neither.
func (v *Vault) draftEgress(ctx context.Context, d *draft, egress *lease.Identity) error {
	channel, err := seal.RandomKey()
	if err != nil {
		return err
	}
	if egress.Expires.Before(d.worker.Expires) {
		d.worker.Expires = egress.Expires.UTC().Truncate(time.Microsecond)
	}
	d.worker.Channel, d.worker.Egress = channel.Bytes(), egress.Node
	dis := d.dispatch
	d.egress = lease.Egress{
		Lease: d.worker.Lease, Customer: dis.Customer, Instance: dis.Instance, Runner: dis.Runner, Expires: d.worker.Expires, Channel: channel.Bytes(),
		Requests: v.requests, Bytes: v.bytes,
	}
	return v.draftSlots(ctx, d)
}

// expiry is the end of a lease: [lease.MaxLife], but not past the end of a day whose
// key it holds, nor past the certificates of those who hold it.
func expiry(now time.Time, days []lease.Day, ends ...time.Time) time.Time {
	for _, d := range days {
		ends = append(ends, time.Unix((int64(d)+1)*86400, 0))
	}
	at := now.Add(lease.MaxLife)
	for _, e := range ends {
		if e.Before(at) {
			at = e
		}
	}
	return at.UTC().Truncate(time.Microsecond)
}

func (v *Vault) draftInstance(ctx context.Context, d *draft) error {
	i := d.dispatch.Instance
	s, err := v.store.Instance(ctx, i)
	if err != nil {
		return err
	}
	k, err := v.readInstance(ctx, s, d.dispatch.Customer, i)
	if err != nil {
		return err
	}
	d.worker.InstanceKey = k.Bytes()
	d.worker.IdempotencyKey, err = hkdf.Expand(sha256.New, k.Bytes(), "bulkhead idempotency v1", seal.KeySize)
	return err
}

func (v *Vault) draftDays(ctx context.Context, d *draft) error {
	destroyed := v.store.Version(keystore.KindDay, keystore.Subject{})
	days := slices.Clone(d.dispatch.Days)
	slices.Sort(days)
	for _, day := range slices.Compact(days) {
		if err := v.checkDay(day, destroyed); err != nil {
			return err
		}
		s, err := v.store.Payload(ctx, d.dispatch.Customer, uint32(day))
		if err != nil {
			return err
		}
		raw, err := v.privateHalf(ctx, s, day)
		if err != nil {
			return err
		}
		d.worker.Payload = append(d.worker.Payload, lease.PayloadKey{Day: day, Private: raw})
	}
	return nil
}

func (v *Vault) draftSlots(ctx context.Context, d *draft) error {
	for _, slot := range d.dispatch.Slots {
		r, err := v.openRecord(ctx, slot.Connection)
		if err == nil && !off(ownersChecked) && !r.SharedTo(d.dispatch.Customer) {
			err = fmt.Errorf("%w: it is another customer's and not shared", ErrRefused)
		}
		if err == nil && r.Kind == lease.KindOAuth2Client {
			err = fmt.Errorf("%w: a client fills no slot", ErrRefused)
		}
		if err != nil {
			return fmt.Errorf("connection %s: %w", slot.Connection, err)
		}
		d.egress.Slots = append(d.egress.Slots, v.slot(d, slot.Name, r))
	}
	return nil
}

// slot is a record as it is leased: of kinds that change, without what renews it, and with a
// ticket for newer tokens.
func (v *Vault) slot(d *draft, name string, r *lease.Record) lease.SlotRecord {
	s := lease.SlotRecord{Slot: name, Record: *r}
	if !r.Kind.Changes() {
		return s
	}
	if !off(fieldsKept) {
		s.Record.Keep(func(field string) bool { return lease.Leased(r.Kind, field) })
	}
	s.Ticket = lease.MakeTicket(v.tickets, &lease.Ticket{
		Lease: d.worker.Lease, Egress: d.worker.Egress, Customer: d.dispatch.Customer, Connection: r.Connection, Expires: d.worker.Expires,
	})
	return s
}

// openRecord opens a credential record and checks that it is the one of its row.
func (v *Vault) openRecord(ctx context.Context, n id.Connection) (*lease.Record, error) {
	s, err := v.store.Connection(ctx, n)
	if err != nil {
		return nil, err
	}
	return v.openRecordRow(ctx, s, n)
}

func (v *Vault) openRecordRow(ctx context.Context, s keystore.Sealed, n id.Connection) (*lease.Record, error) {
	plain, err := v.openSealed(ctx, s, tableConnection, n[:])
	if err != nil {
		return nil, err
	}
	r := &lease.Record{}
	if err := wire.ParseBody(plain, r); err != nil {
		clear(plain)
		return nil, err
	}
	if !off(placeBound) && (r.Connection != n || r.Customer != s.Customer || r.Version != s.Version) {
		clear(plain)
		return nil, seal.ErrOpen
	}
	return r, nil
}

// commit checks in the transaction of the leaves that everything the lease was made
// from is still the newest, and writes one leaf for the lease and one for each viewer or
// read.
func (v *Vault) commit(tx *keystore.Tx, d *draft) error {
	dis := d.dispatch
	if err := checkVersions(tx, d); err != nil {
		return err
	}
	destroyed := tx.Version(keystore.KindDay, keystore.Subject{})
	for _, p := range d.worker.Payload {
		if err := v.checkDay(p.Day, destroyed); err != nil {
			return err
		}
	}
	g := &Grant{
		Lease: d.worker.Lease, Server: dis.Server, Egress: d.worker.Egress, Instance: dis.Instance, Definition: dis.Definition,
		ConfigVersion: dis.ConfigVersion, Days: dis.Days, Expires: d.worker.Expires,
	}
	for _, s := range d.egress.Slots {
		g.Connections = append(g.Connections, Change{s.Record.Connection, s.Record.Version})
	}
	for _, e := range dis.Executions {
		g.Executions = append(g.Executions, Change{Subject: e})
	}
	if err := tx.Append(v.leaf(leafLease, dis.Customer, dis.Runner, g)); err != nil {
		return err
	}
	for _, w := range dis.Viewers {
		if err := tx.Append(v.leaf(leafView, dis.Customer, dis.Runner, &View{View: w.View, Lease: d.worker.Lease, Server: dis.Server, Instance: dis.Instance})); err != nil {
			return err
		}
	}
	if r := dis.Read; r != nil {
		return tx.Append(v.leaf(leafView, dis.Customer, dis.Runner, &View{
			View: r.View, Lease: d.worker.Lease, Server: dis.Server, Instance: dis.Instance,
			Execution: r.Execution, Kind: r.Kind, Class: r.Class, Who: r.Who,
		}))
	}
	return nil
}

func checkVersions(tx *keystore.Tx, d *draft) error {
	if off(versionsChecked) {
		return nil
	}
	i := tx.Version(keystore.KindInstance, d.dispatch.Instance)
	if i.Number == 0 || i.Gone {
		return fmt.Errorf("instance %s: %w", d.dispatch.Instance, errUnknown)
	}
	if i.Number != d.dispatch.ConfigVersion {
		return fmt.Errorf("%w: the dispatch has config version %d, the newest is %d", ErrRefused, d.dispatch.ConfigVersion, i.Number)
	}
	for _, s := range d.egress.Slots {
		n := tx.Version(keystore.KindConnection, s.Record.Connection)
		if n.Gone || n.Number != s.Record.Version {
			return fmt.Errorf("connection %s: %w: the row has version %d, the ledger %d", s.Record.Connection, errChanged, s.Record.Version, n.Number)
		}
	}
	return nil
}
