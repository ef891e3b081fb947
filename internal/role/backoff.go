package role

import "time"

const (
	// firstRest and longestRest bound how long a role that ended rests before it is started
	// again. The first time it does not rest.
	firstRest   = 50 * time.Millisecond
	longestRest = 15 * time.Second
	// settled is how long a role has to serve for its earlier ends to be forgotten.
	settled = 3 * time.Second
	// worried is how many ends in a row are worth an error in the log.
	worried = 5
)

// rest is how long a role rests that ended so many times in a row. random is from 0 to 1:
// roles that end together do not all start again together.
func rest(ends int, random float64) time.Duration {
	if ends <= 1 {
		return 0
	}
	d := longestRest
	if n := ends - 2; n < 16 {
		d = min(firstRest<<n, longestRest)
	}
	return d/2 + time.Duration(random*float64(d/2))
}
