package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bulkheadhq/bulkhead/internal/engine"
)

// metrics are the numbers of /metrics. Labels hold names of roles and routes and statuses:
// what customers call things is in none of them.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bulkhead_api_request_seconds", Help: "Time to answer requests of the API.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "status"}),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), m.requests, &facts{s})
	m.registry.MustRegister(s.o.Collectors...)
	return m
}

func (m *metrics) observe(row *route, status int, d time.Duration) {
	m.requests.WithLabelValues(row.id, strconv.Itoa(status)).Observe(d.Seconds())
}

// facts collects what the engine and the supervisor know when somebody asks.
type facts struct{ s *Server }

var _ prometheus.Collector = (*facts)(nil)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bulkhead_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector. What is collected is said with each value.
func (f *facts) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (f *facts) Collect(out chan<- prometheus.Metric) {
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if f.s.engine != nil {
		f.collectEngine(ctx, out, value)
		f.collectRefreshes(ctx, value)
	}
	ready := 0.0
	if f.s.readiness(ctx).Ready {
		ready = 1
	}
	if f.s.db != nil {
		if n, err := f.s.db.Org(ctx, f.s.o.Org).UnseenNotices(); err == nil {
			value(gauge("notices_unseen", "Notices about connections that nobody has seen."), prometheus.GaugeValue, float64(n))
		}
		f.collectUnknown(ctx, value)
	}
	value(gauge("ready", "Events can be stored and run."), prometheus.GaugeValue, ready)
	if f.s.o.Health.Roles == nil {
		return
	}
	for _, r := range f.s.o.Health.Roles() {
		up := 0.0
		if r.Up {
			up = 1
		}
		value(gauge("role_up", "The role's process serves.", "role"), prometheus.GaugeValue, up, r.Role)
		value(gauge("role_restarts_total", "Times that the role's process was started again.", "role"), prometheus.CounterValue, float64(r.Restarts), r.Role)
		value(gauge("role_memory_bytes", "Memory of the role's process and what it started.", "role"), prometheus.GaugeValue, float64(r.Memory), r.Role)
	}
}

// collectUnknown collects how many events came for accounts that nobody has connected.
func (f *facts) collectUnknown(ctx context.Context, value func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	list, err := f.s.db.Org(ctx, f.s.o.Org).Unknowns()
	if err != nil {
		f.s.log.ErrorContext(ctx, "events of unknown accounts cannot be counted", "err", err)
		return
	}
	sums := map[string]uint64{}
	for _, u := range list {
		sums[u.Connector] += u.Events
	}
	for connector, n := range sums {
		value(gauge("app_unknown_accounts_total", "Events of providers' apps whose account nobody has connected; the same on every server.", "connector"), prometheus.CounterValue, float64(n), connector)
	}
}

// collectEngine collects what the engine counts. When the store does not answer, these are
// absent.
func (f *facts) collectEngine(ctx context.Context, out chan<- prometheus.Metric, value func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	n, err := f.s.engine.Stats(ctx)
	if err != nil {
		f.s.log.ErrorContext(ctx, "numbers of the engine cannot be read", "err", err)
		return
	}
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
	}{
		{"pending_executions", "Executions that have not begun.", prometheus.GaugeValue, float64(n.Pending)},
		{"pending_bytes", "Bytes of events that have not begun.", prometheus.GaugeValue, float64(n.PendingBytes)},
		{"oldest_pending_seconds", "Time since the oldest pending execution was accepted.", prometheus.GaugeValue, n.OldestPending.Seconds()},
		{"running_executions", "Executions that a runner has.", prometheus.GaugeValue, float64(n.Running)},
		{"waiting_executions", "Executions that wait for a time, an answer or another.", prometheus.GaugeValue, float64(n.Waiting)},
		{"runners", "Runners that are alive.", prometheus.GaugeValue, float64(n.Runners)},
		{"runner_room", "Executions that runners have room for.", prometheus.GaugeValue, float64(n.Room)},
		{"accepted_total", "Events that were accepted.", prometheus.CounterValue, float64(n.Accepted)},
		{"refused_total", "Events that were refused because too much was pending.", prometheus.CounterValue, float64(n.Refused)},
		{"commits_total", "Appends to journals.", prometheus.CounterValue, float64(n.Commits)},
		{"interrupted_total", "Leases that were lost.", prometheus.CounterValue, float64(n.Interrupted)},
		{"retried_total", "Executions that were retried by hand.", prometheus.CounterValue, float64(n.Retried)},
	} {
		value(gauge(x.name, x.help), x.kind, x.value)
	}
	for name, h := range map[string]engine.Histogram{"accept": n.AcceptTime, "begin": n.BeginTime, "life": n.LifeTime} {
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, bound := range h.Bounds {
			sum += h.Counts[i]
			buckets[bound] = sum
		}
		d := gauge(name+"_seconds", "Time from an event to its answer (accept), its first lease (begin) or its end (life).")
		out <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum, buckets)
	}
	ended := gauge("ended_total", "Executions that ended.", "status")
	value(ended, prometheus.CounterValue, float64(n.Completed), "completed")
	value(ended, prometheus.CounterValue, float64(n.Faulted), "faulted")
	value(ended, prometheus.CounterValue, float64(n.Cancelled), "cancelled")
	for name, count := range n.Faults {
		value(gauge("faults_total", "Faults by type; other for the authors' own.", "type"), prometheus.CounterValue, float64(count), name)
	}
}

// collectRefreshes collects how the refreshes of tokens do. When the store does not answer,
// these are absent.
func (f *facts) collectRefreshes(ctx context.Context, value func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	n, err := f.s.engine.RefreshStats(ctx)
	if err != nil {
		f.s.log.ErrorContext(ctx, "numbers of refreshes cannot be read", "err", err)
		return
	}
	value(gauge("refreshes_due", "Refreshes of tokens whose time has come."), prometheus.GaugeValue, float64(n.Due))
	value(gauge("refreshes_overdue", "Refreshes of tokens that wait for longer than they should."), prometheus.GaugeValue, float64(n.Overdue))
	value(gauge("refreshes_overdue_customers", "Customers whose refreshes wait for longer than they should."), prometheus.GaugeValue, float64(n.Customers))
	value(gauge("refreshes_ordered", "Refreshes that this server has ordered and that are not answered."), prometheus.GaugeValue, float64(n.Ordered))
	value(gauge("oldest_refresh_due_seconds", "Time since the longest waiting refresh was due."), prometheus.GaugeValue, n.Oldest.Seconds())
	for outcome, count := range n.Outcomes {
		value(gauge("refreshes_total", "Refreshes of tokens by how they ended.", "outcome"), prometheus.CounterValue, float64(count), outcome)
	}
}

// serveMetrics answers whoever may read metrics.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	p, problem := principalOf(r.Context()), (*Problem)(nil)
	if p == nil {
		p, problem = s.authenticate(r)
	}
	switch {
	case problem != nil:
		w.Header().Set("WWW-Authenticate", `Bearer realm="bulkhead"`)
		writeProblem(w, problem)
	case !p.may(PermissionMetricsRead):
		writeProblem(w, problemOf(CodeForbidden, "It needs the permission "+string(PermissionMetricsRead)+"."))
	default:
		promhttp.HandlerFor(s.metrics().registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}).ServeHTTP(w, r)
	}
}

// maxScrapes bounds how many ask for metrics at once.
const maxScrapes = 4
