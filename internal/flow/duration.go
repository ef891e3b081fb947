package flow

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrDuration is the cause of every error of [ParseDuration].
var ErrDuration = errors.New("not an ISO 8601 duration like PT30S, PT15M, PT1.5H, P2D or P1W")

// Duration is a length of time written as an ISO 8601 duration. Days are 24 hours and weeks seven days; years and
// months have no fixed length and are refused. Zero means that nothing was written.
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Or returns d, or def where nothing was written.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// ParseDuration reads an ISO 8601 duration (ISO 8601-1:2019, 5.5.2): P[nW] or P[nD][T[nH][nM][nS]]. The last number may
// have a fraction. Negative and zero lengths are refused.
func ParseDuration(s string) (Duration, error) {
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" {
		return 0, fmt.Errorf("parse duration %q: %w", s, ErrDuration)
	}
	var total float64
	var exact time.Duration
	units := "WD"
	clock, fraction, seen := false, false, false
	for rest != "" {
		if rest[0] == 'T' && !clock {
			units, rest, clock, seen = "HMS", rest[1:], true, false
			continue
		}
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.') {
			n++
		}
		if n == 0 || n == len(rest) || fraction {
			return 0, fmt.Errorf("parse duration %q: %w", s, ErrDuration)
		}
		unit := strings.IndexByte(units, rest[n])
		if unit < 0 {
			return 0, fmt.Errorf("parse duration %q: %w", s, ErrDuration)
		}
		length, err := scale(rest[:n], unitLength(units, unit))
		if err != nil {
			return 0, fmt.Errorf("parse duration %q: %w", s, err)
		}
		fraction = strings.Contains(rest[:n], ".")
		total += float64(length)
		exact += length
		units, rest, seen = units[unit+1:], rest[n+1:], true
	}
	if !seen || total <= 0 || total > math.MaxInt64/2 {
		return 0, fmt.Errorf("parse duration %q: %w", s, ErrDuration)
	}
	return Duration(exact), nil
}

func unitLength(units string, i int) time.Duration {
	switch units[i] {
	case 'W':
		return 7 * 24 * time.Hour
	case 'D':
		return 24 * time.Hour
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	default:
		return time.Second
	}
}

// scale multiplies a decimal number with a unit, exact to the nanosecond for whole numbers and for fractions of up to
// nine digits.
func scale(number string, unit time.Duration) (time.Duration, error) {
	whole, part, dotted := strings.Cut(number, ".")
	if whole == "" || dotted && (part == "" || len(part) > 9) || strings.Contains(part, ".") {
		return 0, ErrDuration
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/4/int64(unit) {
		return 0, ErrDuration
	}
	d := time.Duration(n) * unit
	if dotted {
		f, err := strconv.ParseInt(part+strings.Repeat("0", 9-len(part)), 10, 64)
		if err != nil {
			return 0, ErrDuration
		}
		d += time.Duration(f) * (unit / time.Second)
		if unit < time.Second {
			return 0, ErrDuration
		}
	}
	return d, nil
}

// String returns the canonical form: whole days, then hours, minutes and seconds, zero parts left out ("P2D",
// "PT1H30M", "PT0.1S"). The zero Duration is "".
func (d Duration) String() string {
	if d == 0 {
		return ""
	}
	rest := time.Duration(d)
	var b strings.Builder
	b.WriteByte('P')
	if days := rest / (24 * time.Hour); days > 0 {
		fmt.Fprintf(&b, "%dD", days)
		rest -= days * 24 * time.Hour
	}
	if rest == 0 {
		return b.String()
	}
	b.WriteByte('T')
	if h := rest / time.Hour; h > 0 {
		fmt.Fprintf(&b, "%dH", h)
		rest -= h * time.Hour
	}
	if m := rest / time.Minute; m > 0 {
		fmt.Fprintf(&b, "%dM", m)
		rest -= m * time.Minute
	}
	if rest > 0 {
		text := fmt.Sprintf("%d.%09d", rest/time.Second, rest%time.Second)
		b.WriteString(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
		b.WriteByte('S')
	}
	return b.String()
}

// MarshalText writes the canonical form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	parsed, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
