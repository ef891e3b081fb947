package role

import "time"

const (
	// firstRest is how long a role rests before it is started again, the second time; the
	// first time it does not rest. It doubles up to shortRest for a role that served, and up
	// to longRest for one that does not start.
	firstRest = 50 * time.Millisecond
	shortRest = time.Second
	longRest  = 15 * time.Second
	// settled is how long a role has to serve for its earlier ends to be forgotten.
	settled = 2 * time.Second
	// worried is how many ends in a row are worth an error in the log.
	worried = 5
)

// rest is how long a role rests that ended so many times in a row, at most so long. random
// is from 0 to 1: roles that end together do not all start again together.
func rest(ends int, most time.Duration, random float64) time.Duration {
	if ends <= 1 {
		return 0
	}
	d := most
	if n := ends - 2; n < 16 {
		d = min(firstRest<<n, most)
	}
	return d/2 + time.Duration(random*float64(d/2))
}
