package trigger

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// answer is how the door refuses: a fixed text, which says nothing about the installation.
type answer struct {
	status int
	code   string
	title  string
	after  time.Duration // Retry-After; 0: none
}

// The answers of the door.
var (
	notFound    = answer{http.StatusNotFound, "not-found", "not found", 0}
	notReady    = answer{http.StatusServiceUnavailable, "not-ready", "not ready", 5 * time.Minute}
	wrongMethod = answer{http.StatusMethodNotAllowed, "method", "method not allowed", 0}
	tooLarge    = answer{http.StatusRequestEntityTooLarge, "too-large", "the body is too large", 0}
	malformed   = answer{http.StatusBadRequest, "malformed", "the body is not what its type says", 0}
	unsupported = answer{http.StatusUnsupportedMediaType, "unsupported", "the body is of a type that webhooks do not take", 0}
	unverified  = answer{http.StatusUnauthorized, "unverified", "the sender is not recognised", 0}
	busy        = answer{http.StatusServiceUnavailable, "busy", "too many large requests at once", 5 * time.Second}
	tooMany     = answer{http.StatusTooManyRequests, "too-many", "too many events are pending", time.Second}
	faulted     = answer{http.StatusInternalServerError, "faulted", "the flow faulted before it answered", 0}
	failed      = answer{http.StatusServiceUnavailable, "unavailable", "try again", 10 * time.Second}
)

// Header values that never change.
var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
)

func refuse(w http.ResponseWriter, a answer) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if a.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(a.after/time.Second)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(`{"title":"` + a.title + `","status":` + strconv.Itoa(a.status) + `,"code":"` + a.code + "\"}\n"))
}

// bodyAnswer is the answer to a body that cannot be read.
func bodyAnswer(err error) answer {
	switch {
	case errors.Is(err, errNoRoom):
		return busy
	case errors.Is(err, ErrTooLarge):
		return tooLarge
	case errors.Is(err, ErrUnsupported):
		return unsupported
	default:
		return malformed
	}
}
