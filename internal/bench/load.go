package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Load is what one run of the load sends.
type Load struct {
	Address     string        `json:"address"` // host:port of the webhooks, on this machine
	Targets     []string      `json:"targets"` // paths, which take turns
	Connections int           `json:"connections"`
	Count       int           `json:"count"`    // events; 0: as many as Duration allows
	Duration    time.Duration `json:"duration"` // of sending
	Calls       int           `json:"calls"`    // calls of the upstream that follow from each event
	Extra       string        `json:"extra"`    // further members of the body, with a leading comma
}

// Loaded is what came of it. Latencies are in microseconds.
type Loaded struct {
	Upstream  string  `json:"upstream,omitempty"` // host:port, in the first line only
	Accepted  int     `json:"accepted"`
	Refused   int     `json:"refused"` // answered with 429 and sent again as another event
	Sending   float64 `json:"sending"` // seconds from the first request to the last answer
	Wall      float64 `json:"wall"`    // seconds from the first request to the last effect
	Answer50  float64 `json:"answer_p50"`
	Answer99  float64 `json:"answer_p99"`
	Effect50  float64 `json:"effect_p50"` // from the request to the call of the upstream
	Effect99  float64 `json:"effect_p99"`
	Missing   int     `json:"missing"`
	Repeated  int     `json:"repeated"`
	Processor float64 `json:"processor"` // seconds that the load itself used
	Error     string  `json:"error,omitempty"`
}

// quiet is how long a run waits for an effect that does not come.
const quiet = 20 * time.Second

// refusedPause is how long a connection rests after a refusal.
const refusedPause = 5 * time.Millisecond

// numbersPerRun keeps the numbers of events of different runs apart.
const numbersPerRun = 100_000_000

// answered is the upstream's answer to every call.
const answered = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n" + `{"id":"inv-4711","state":"new"}`

// load is the state of the process. It is used by one thread.
type load struct {
	poll     int
	listener int
	sockets  []*socket // by descriptor
	client   []bool    // by descriptor

	run     int
	spec    Load
	prefix  [][]byte // request line and headers of each target, without the length
	out     []byte
	started int64
	until   int64
	next    int
	idle    []pause // refused connections
	open    int     // requests without an answer
	sent    []int64 // by event, when its request was written
	calls   []int32 // by event, how often the upstream was called
	accept  []bool
	answers []float64
	effects []float64
	got     Loaded
	lastAns int64
	lastEff int64
	total   int
	failed  error
}

type pause struct {
	s     *socket
	until int64
}

// RunLoad is the load process: it prints where its upstream listens, then reads one [Load]
// a line and prints one [Loaded] for each, until the input ends.
func RunLoad(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	debug.SetGCPercent(400)
	l := &load{}
	var err error
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("start load: %w", err)
	}
	defer closeSocket(l.poll)
	var address string
	if l.listener, address, err = listen(); err != nil {
		return err
	}
	defer closeSocket(l.listener)
	if err := l.watch(l.listener); err != nil {
		return err
	}
	encode := json.NewEncoder(out)
	if err := encode.Encode(Loaded{Upstream: address}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		got := Loaded{}
		if err := json.Unmarshal(lines.Bytes(), &l.spec); err != nil {
			return fmt.Errorf("read load: %w", err)
		}
		if got, err = l.perform(); err != nil {
			got.Error = err.Error()
		}
		if err := encode.Encode(got); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		l.spec = Load{}
	}
	return lines.Err()
}

func (l *load) watch(fd int) error {
	err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("watch connection: %w", err)
	}
	return nil
}

func (l *load) add(fd int, client bool) (*socket, error) {
	for len(l.sockets) <= fd {
		l.sockets, l.client = append(l.sockets, nil), append(l.client, false)
	}
	s := &socket{fd: fd, request: -1, in: make([]byte, 0, 2*readSize)}
	l.sockets[fd], l.client[fd] = s, client
	return s, l.watch(fd)
}

func (l *load) remove(s *socket) {
	closeSocket(s.fd) // which ends the watching
	l.sockets[s.fd] = nil
}

// perform is one run.
func (l *load) perform() (Loaded, error) {
	l.run++
	l.reset()
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	conns, err := l.connect()
	defer func() {
		for _, s := range conns {
			if l.sockets[s.fd] == s {
				l.remove(s)
			}
		}
	}()
	if err != nil {
		return l.got, err
	}
	l.started = time.Now().UnixNano()
	l.lastAns, l.lastEff = l.started, l.started
	l.until = l.started + int64(l.spec.Duration)
	for _, s := range conns {
		l.request(s)
	}
	for l.failed == nil && !l.done() {
		l.turn()
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	l.summarize(cpuOf(&after) - cpuOf(&before))
	return l.got, l.failed
}

func cpuOf(u *unix.Rusage) float64 { return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9 }

func (l *load) reset() {
	l.next, l.open, l.total, l.failed, l.got = 0, 0, 0, nil, Loaded{}
	l.sent, l.calls, l.accept, l.idle = l.sent[:0], l.calls[:0], l.accept[:0], l.idle[:0]
	l.answers, l.effects, l.prefix = l.answers[:0], l.effects[:0], l.prefix[:0]
	for _, path := range l.spec.Targets {
		l.prefix = append(l.prefix, fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ", path))
	}
}

func (l *load) connect() ([]*socket, error) {
	_, text, err := net.SplitHostPort(l.spec.Address)
	port, errPort := strconv.Atoi(text)
	if err := errors.Join(err, errPort); err != nil || len(l.spec.Targets) == 0 {
		return nil, errors.Join(errors.New("the load has no target"), err)
	}
	var out []*socket
	for range l.spec.Connections {
		fd, err := connect(port)
		if err != nil {
			return out, err
		}
		s, err := l.add(fd, true)
		out = append(out, s)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// request sends the next event, unless enough were sent.
func (l *load) request(s *socket) {
	now := time.Now().UnixNano()
	if l.spec.Count > 0 && l.next >= l.spec.Count+l.got.Refused || l.spec.Count == 0 && now >= l.until {
		return
	}
	n := l.next
	l.next++
	var buffer [512]byte
	body := append(buffer[:0], `{"n":`...)
	body = strconv.AppendInt(body, int64(l.run)*numbersPerRun+int64(n), 10)
	body = append(body, `,"id":"ord-4711","qty":3,"price":19.5,"customer":{"name":"ACME","mail":"a@b.example"}`...)
	body = append(append(body, l.spec.Extra...), '}')
	l.out = append(l.out[:0], l.prefix[n%len(l.prefix)]...)
	l.out = strconv.AppendInt(l.out, int64(len(body)), 10)
	l.out = append(append(l.out, "\r\n\r\n"...), body...)
	s.request = n
	l.sent, l.calls, l.accept = append(l.sent, now), append(l.calls, 0), append(l.accept, false)
	l.open++
	if err := s.write(l.out); err != nil {
		l.failed = err
	}
}

// done says whether nothing more is to come, or has not for long.
func (l *load) done() bool {
	now := time.Now().UnixNano()
	for len(l.idle) > 0 && l.idle[0].until <= now {
		s := l.idle[0].s
		l.idle = l.idle[1:]
		l.request(s)
	}
	if l.open == 0 && len(l.idle) == 0 && l.total >= l.got.Accepted*l.spec.Calls {
		return true
	}
	return now-max(l.lastAns, l.lastEff) > int64(quiet)
}

// turn waits for connections with something to read, and serves them.
func (l *load) turn() {
	var events [128]unix.EpollEvent
	wait := 100
	if len(l.idle) > 0 {
		wait = 1
	}
	n, err := unix.EpollWait(l.poll, events[:], wait)
	if err != nil && !errors.Is(err, unix.EINTR) {
		l.failed = fmt.Errorf("wait: %w", err)
		return
	}
	for _, e := range events[:max(n, 0)] {
		fd := int(e.Fd)
		switch {
		case fd == l.listener:
			l.acceptAll()
		case l.sockets[fd] == nil:
		case l.client[fd]:
			if err := l.answer(l.sockets[fd]); err != nil {
				l.failed = fmt.Errorf("platform: %w", err)
			}
		default:
			if err := l.call(l.sockets[fd]); err != nil {
				l.remove(l.sockets[fd]) // the platform opens another
			}
		}
	}
}

func (l *load) acceptAll() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
			closeSocket(fd)
			continue
		}
		if _, err := l.add(fd, false); err != nil {
			l.failed = err
		}
	}
}

// answer takes the platform's answer to a request and sends the next.
func (l *load) answer(s *socket) error {
	base := s.in
	if err := s.fill(); err != nil {
		return err
	}
	line, body, ok, err := s.message()
	if err != nil || !ok {
		return err
	}
	now := time.Now().UnixNano()
	n := s.request
	s.request = -1
	l.open--
	l.lastAns = now
	status, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("HTTP/1.1 ")), []byte(" "))
	switch string(status) {
	case "200", "202":
		l.got.Accepted++
		l.accept[n] = true
		l.answers = append(l.answers, float64(now-l.sent[n])/1e3)
	case "429":
		l.got.Refused++
		l.idle = append(l.idle, pause{s, now + int64(refusedPause)})
	default:
		return fmt.Errorf("it answers %s: %s", line, body)
	}
	s.reuse(base)
	if l.accept[n] {
		l.request(s)
	}
	return nil
}

// call answers a call of the upstream and counts it for the event that it names.
func (l *load) call(s *socket) error {
	base := s.in
	if err := s.fill(); err != nil {
		return err
	}
	for {
		_, body, ok, err := s.message()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		l.count(body)
		if err := s.write([]byte(answered)); err != nil {
			return err
		}
	}
	s.reuse(base)
	return nil
}

func (l *load) count(body []byte) {
	at := bytes.Index(body, []byte(`"n":`))
	if at < 0 {
		return // a call that belongs to no event
	}
	n := 0
	for _, c := range body[at+4:] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	n -= l.run * numbersPerRun
	if n < 0 || n >= len(l.calls) {
		l.got.Repeated++ // of an earlier run, which had ended
		return
	}
	now := time.Now().UnixNano()
	l.calls[n]++
	l.total++
	l.lastEff = now
	if l.calls[n] == int32(l.spec.Calls) {
		l.effects = append(l.effects, float64(now-l.sent[n])/1e3)
	}
}

func (l *load) summarize(processor float64) {
	g := &l.got
	for n, calls := range l.calls {
		want := int32(0)
		if l.accept[n] {
			want = int32(l.spec.Calls)
		}
		g.Missing += int(max(want-calls, 0))
		g.Repeated += int(max(calls-want, 0))
	}
	g.Processor = processor
	g.Sending = float64(l.lastAns-l.started) / 1e9
	g.Wall = float64(max(l.lastEff, l.lastAns)-l.started) / 1e9
	g.Answer50, g.Answer99 = quantile(l.answers, 0.5), quantile(l.answers, 0.99)
	g.Effect50, g.Effect99 = quantile(l.effects, 0.5), quantile(l.effects, 0.99)
}

// quantile sorts values and is the one below which that part of them lies; 0 for none.
func quantile(values []float64, part float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(math.Ceil(part*float64(len(values))))-1)]
}
