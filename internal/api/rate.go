package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Rate is how many requests one token may make.
type Rate struct {
	Requests int           // in a row
	Window   time.Duration // in which so many more are allowed
}

// DefaultRate is generous to programs and stops loops that have gone wild.
func DefaultRate() Rate { return Rate{Requests: 3000, Window: time.Minute} }

// maxRates bounds the tokens that are counted. Only valid tokens are, so that nobody can
// push others out without being let in.
const maxRates = 10_000

// rates counts requests by token, in a bucket for each. It is safe for concurrent use.
type rates struct {
	limit Rate

	mu      sync.Mutex
	buckets map[id.Token]*rate.Limiter
}

func newRates(r Rate) *rates {
	if r.Requests <= 0 || r.Window <= 0 {
		r = DefaultRate()
	}
	return &rates{limit: r, buckets: map[id.Token]*rate.Limiter{}}
}

// take counts a request, and says in the headers of draft-ietf-httpapi-ratelimit-headers
// what is left. It reports whether the request is allowed.
func (r *rates) take(t id.Token, now time.Time, h http.Header) bool {
	perSecond := float64(r.limit.Requests) / r.limit.Window.Seconds()
	r.mu.Lock()
	b := r.buckets[t]
	if b == nil {
		if len(r.buckets) >= maxRates {
			clear(r.buckets)
		}
		b = rate.NewLimiter(rate.Limit(perSecond), r.limit.Requests)
		r.buckets[t] = b
	}
	ok := b.AllowN(now, 1)
	left := b.TokensAt(now)
	r.mu.Unlock()
	h.Set("RateLimit-Policy", fmt.Sprintf(`"token";q=%d;w=%d`, r.limit.Requests, int(math.Ceil(r.limit.Window.Seconds()))))
	reset := int(math.Ceil((float64(r.limit.Requests) - left) / perSecond))
	h.Set("RateLimit", fmt.Sprintf(`"token";r=%d;t=%d`, max(int(left), 0), max(reset, 0)))
	if !ok {
		h.Set("Retry-After", strconv.Itoa(max(int(math.Ceil((1-left)/perSecond)), 1)))
	}
	return ok
}
