package oauth

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

const (
	// maxLife is the longest life that is believed; tokens that say more are taken to live that long.
	maxLife = 10 * 365 * 24 * time.Hour
	// maxSkew is how far clocks may differ where a moment of the provider is compared with ours.
	maxSkew = 5 * time.Minute
)

// takeExpiry notes when the token of a set ends (24). Unknown stays unknown.
func (g *Grant) takeExpiry(set string, rule *credential.Expiry, a *answer) error {
	if rule == nil {
		rule = &credential.Expiry{}
	}
	text, _ := a.at(cmp.Or(rule.Path, "expires_in"))
	if rule.Form == credential.ExpiryJWT {
		text, _ = a.at("claim:" + within(set, FieldAccess) + ".exp")
	}
	end, ok := expiry(rule, strings.TrimSpace(text), a.sent, skewOf(a.header, a.sent))
	name := within(set, FieldExpires)
	if text != "" && !ok {
		return protocol("the answer tells the end of the token in another form than the recipe")
	}
	if !ok && rule.Default > 0 {
		end, ok = a.sent.Add(rule.Default.Duration()), true
	}
	if !ok {
		if g.has(name) {
			g.set(name, secret.Value{}) // what was known was of the token before
		}
		return nil
	}
	g.set(name, secret.New([]byte(strconv.FormatInt(end.Unix(), 10))))
	return nil
}

// skewOf is how far the provider's clock is ahead of ours, by the header Date.
func skewOf(h http.Header, now time.Time) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return date.Sub(now.Truncate(time.Second))
}

// expiry reads an end. Moments of the provider's clock are turned into moments of ours.
func expiry(rule *credential.Expiry, text string, now time.Time, skew time.Duration) (time.Time, bool) {
	if text == "" {
		return time.Time{}, false
	}
	var end time.Time
	switch form := cmp.Or(rule.Form, credential.ExpirySeconds); form {
	case credential.ExpirySeconds, credential.ExpiryMillis, credential.ExpiryMinutes:
		unit := map[credential.ExpiryForm]time.Duration{credential.ExpirySeconds: time.Second, credential.ExpiryMillis: time.Millisecond, credential.ExpiryMinutes: time.Minute}[form]
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0) { // not a number is neither
			return time.Time{}, false
		}
		if n > float64(maxLife/unit) {
			return now.Add(maxLife), true
		}
		return now.Add(time.Duration(n * float64(unit))), true
	case credential.ExpiryDuration:
		d, ok := duration(text)
		return now.Add(min(d, maxLife)), ok
	case credential.ExpiryUnix, credential.ExpiryUnixMs, credential.ExpiryJWT:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1<<50) {
			return time.Time{}, false
		}
		if form == credential.ExpiryUnixMs {
			end = time.UnixMilli(int64(n))
		} else {
			end = time.Unix(int64(n), 0)
		}
	case credential.ExpiryDate:
		var err error
		if end, err = time.Parse(rule.Layout, text); err != nil {
			return time.Time{}, false
		}
	default:
		var ok bool
		if end, ok = isoTime(text); !ok {
			return time.Time{}, false
		}
	}
	end = end.Add(-skew)
	if limit := now.Add(maxLife); end.After(limit) {
		end = limit
	}
	return end, true
}

// isoTime reads the forms of ISO 8601 that providers write; without a zone it is UTC.
func isoTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05.999Z0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// duration reads PT1H30M, 1h30m and 01:30:00.
func duration(text string) (time.Duration, bool) {
	if rest, ok := strings.CutPrefix(text, "P"); ok {
		days := "0"
		if before, after, ok := strings.Cut(rest, "D"); ok {
			days, rest = before, after
		}
		n, err := strconv.ParseUint(days, 10, 12)
		if err != nil {
			return 0, false
		}
		total := time.Duration(n) * 24 * time.Hour
		if rest = strings.TrimPrefix(rest, "T"); rest == "" {
			return total, true
		}
		d, err := time.ParseDuration(strings.ToLower(rest))
		return total + d, err == nil && d >= 0
	}
	if parts := strings.Split(text, ":"); len(parts) == 3 {
		text = parts[0] + "h" + parts[1] + "m" + parts[2] + "s"
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}
