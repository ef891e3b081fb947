package role

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// answerTime bounds how long a server that ends goes on answering what it was asked.
const answerTime = 5 * time.Second

// answerLast ends HTTP servers: they take no more connections at once, and requests that are under way get [answerTime] to be
// answered. What takes longer is cut off, which is no error: who asked does not know then what became of it, as after a crash.
func answerLast(log *slog.Logger, servers ...*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() {
			err := s.Shutdown(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				log.WarnContext(ctx, "requests that take too long are cut off", "after", answerTime)
				err = nil
			}
			errs[i] = errors.Join(err, s.Close())
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
