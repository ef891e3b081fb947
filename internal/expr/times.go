package expr

import (
	"math"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// timeFunctions are the functions of times and durations. None reads a clock or a file.
func (b *base) timeFunctions() []function {
	str, ts, dur, dyn := cel.StringType, cel.TimestampType, cel.DurationType, cel.DynType
	out := []function{
		{name: "timestamp", args: [][]*cel.Type{sig(str), sig(cel.IntType), sig(ts)}, result: ts, unary: toTime},
		{name: "duration", args: [][]*cel.Type{sig(str), sig(dur)}, result: dur, unary: toDuration},
		{name: "parseTime", args: [][]*cel.Type{sig(dyn), sig(str, str), sig(str, str, str)}, result: ts, many: b.parseTime},
		{name: "formatTime", args: [][]*cel.Type{sig(dyn, str), sig(dyn, str, str)}, result: str, many: b.formatTime},
	}
	for name, get := range timeParts() {
		f := function{name: name, result: cel.IntType, many: b.timePart(name, get)}
		f.members = [][]*cel.Type{sig(ts), sig(ts, str)}
		if durationPart(name, 0) != nil {
			f.members = append(f.members, sig(dur))
		}
		out = append(out, f)
	}
	return out
}

// timeParts are CEL's accessors of a time; months and days of week, month and year count from
// 0, getDate from 1.
func timeParts() map[string]func(time.Time) int {
	return map[string]func(time.Time) int{
		"getDate":         time.Time.Day,
		"getDayOfMonth":   func(t time.Time) int { return t.Day() - 1 },
		"getDayOfWeek":    func(t time.Time) int { return int(t.Weekday()) },
		"getDayOfYear":    func(t time.Time) int { return t.YearDay() - 1 },
		"getFullYear":     time.Time.Year,
		"getHours":        time.Time.Hour,
		"getMilliseconds": func(t time.Time) int { return t.Nanosecond() / 1e6 },
		"getMinutes":      time.Time.Minute,
		"getMonth":        func(t time.Time) int { return int(t.Month()) - 1 },
		"getSeconds":      time.Time.Second,
	}
}

func (b *base) timePart(name string, get func(time.Time) int) func(args ...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val {
		switch x := args[0].(type) {
		case types.Duration:
			if v := durationPart(name, x.Duration); v != nil && len(args) == 1 {
				return v
			}
		case types.Timestamp:
			loc, err := b.zone(args[1:])
			if err != nil {
				return types.WrapErr(err)
			}
			return types.Int(get(x.In(loc)))
		}
		return errorVal("%s() takes a time, not %s; parseTime() makes one of a string", name, kindName(args[0]))
	}
}

// durationPart is the whole duration in a unit, as in CEL; nil where there is no such unit.
func durationPart(name string, d time.Duration) ref.Val {
	switch name {
	case "getHours":
		return types.Int(d / time.Hour)
	case "getMinutes":
		return types.Int(d / time.Minute)
	case "getSeconds":
		return types.Int(d / time.Second)
	case "getMilliseconds":
		return types.Int(d / time.Millisecond % 1000)
	}
	return nil
}

// zone reads an optional last argument that names a time zone; without it, UTC.
func (b *base) zone(args []ref.Val) (*time.Location, error) {
	if len(args) == 0 {
		return time.UTC, nil
	}
	s, ok := args[0].(types.String)
	if !ok {
		return nil, errZone
	}
	return b.zones.load(string(s))
}

var errNoTime = evalErrorf("this is no time; expected RFC 3339 like 2026-05-17T10:30:00Z, or name the format: parseTime(x, \"dd.MM.yyyy\")")

func toTime(v ref.Val) ref.Val {
	switch x := v.(type) {
	case types.Timestamp:
		return x
	case types.String:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
			if t, err := time.Parse(layout, string(x)); err == nil {
				return boundedTime(t)
			}
		}
		return types.WrapErr(errNoTime)
	case types.Int:
		return boundedTime(time.Unix(int64(x), 0))
	}
	if n, ok := v.(*number); ok {
		if p := plain(n); p != ref.Val(n) {
			return toTime(p)
		}
	}
	if f, ok := v.(types.Double); ok && math.Abs(float64(f)) < 1e12 {
		sec, frac := math.Modf(float64(f))
		return boundedTime(time.Unix(int64(sec), int64(frac*1e9)))
	}
	return types.WrapErr(errNoTime)
}

// boundedTime keeps times within what RFC 3339 can write.
func boundedTime(t time.Time) ref.Val {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return errorVal("a time must be between the years 1 and 9999")
	}
	return types.Timestamp{Time: t}
}

// toDuration reads "1h30m" and ISO 8601 "PT1H30M", "P1D".
func toDuration(v ref.Val) ref.Val {
	switch x := v.(type) {
	case types.Duration:
		return x
	case types.String:
		if d, ok := parseISO(string(x)); ok {
			return types.Duration{Duration: d}
		}
		if d, err := time.ParseDuration(string(x)); err == nil {
			return types.Duration{Duration: d}
		}
	}
	return errorVal("this is no duration; expected something like PT1H30M, P1D or 90s")
}

// parseISO reads an ISO 8601 duration of weeks, days, hours, minutes and seconds; a day is 24
// hours. Months and years have no fixed length and are refused.
func parseISO(s string) (time.Duration, bool) {
	sign := time.Duration(1)
	if strings.HasPrefix(s, "-") {
		sign, s = -1, s[1:]
	}
	s, ok := strings.CutPrefix(s, "P")
	if !ok || s == "" {
		return 0, false
	}
	var total float64
	clock := false
	units := map[byte]time.Duration{'W': 7 * 24 * time.Hour, 'D': 24 * time.Hour}
	for s != "" {
		if s[0] == 'T' && !clock && len(s) > 1 {
			clock, s = true, s[1:]
			units = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}
			continue
		}
		i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if i <= 0 || units[s[i]] == 0 {
			return 0, false
		}
		n, err := strconv.ParseFloat(s[:i], 64)
		if err != nil {
			return 0, false
		}
		total += n * float64(units[s[i]])
		s = s[i+1:]
	}
	if total >= math.MaxInt64 {
		return 0, false
	}
	return sign * time.Duration(math.Round(total)), true
}

// parseTime reads a time: parseTime(x) as RFC 3339, a date, or seconds since 1970;
// parseTime(x, format) and parseTime(x, format, zone) by a format.
func (b *base) parseTime(args ...ref.Val) ref.Val {
	if len(args) == 1 {
		return toTime(args[0])
	}
	s, okS := args[0].(types.String)
	format, okF := args[1].(types.String)
	if !okS || !okF {
		return types.WrapErr(errNoTime)
	}
	layout, err := goLayout(string(format))
	if err != nil {
		return types.WrapErr(err)
	}
	loc, err := b.zone(args[2:])
	if err != nil {
		return types.WrapErr(err)
	}
	t, perr := time.ParseInLocation(layout, string(s), loc)
	if perr != nil {
		return errorVal("this time does not have the format %s", shorten(string(format)))
	}
	return boundedTime(t)
}

// formatTime writes a time by a format, in UTC or in a zone.
func (b *base) formatTime(args ...ref.Val) ref.Val {
	t, ok := toTime(args[0]).(types.Timestamp)
	format, okF := args[1].(types.String)
	if !ok || !okF {
		return types.WrapErr(errNoTime)
	}
	loc, err := b.zone(args[2:])
	if err != nil {
		return types.WrapErr(err)
	}
	layout, err := goLayout(string(format))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(t.In(loc).Format(layout))
}

const maxTimeFormat = 200

// goLayout translates a format of letters as in Unicode TR 35 (yyyy-MM-dd'T'HH:mm:ss) into a
// layout of package time. Two named formats exist: "iso" and "http" (RFC 9110).
func goLayout(format string) (string, error) {
	switch {
	case format == "iso":
		return time.RFC3339Nano, nil
	case format == "http":
		return "Mon, 02 Jan 2006 15:04:05 GMT", nil
	case len(format) > maxTimeFormat:
		return "", limitErrorf("a time format may be at most %d bytes long", maxTimeFormat)
	}
	var out strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		if c == '\'' {
			text, n, ok := quoted(format[i:])
			if !ok {
				return "", evalErrorf("a ' in a time format is not closed")
			}
			if hasLayoutText(text) {
				return "", evalErrorf("a time format may not quote digits, month or day names")
			}
			out.WriteString(text)
			i += n
			continue
		}
		if !isLetter(c) {
			if c >= '0' && c <= '9' || c == '_' {
				return "", evalErrorf("a time format may not hold digits")
			}
			out.WriteByte(c)
			i++
			continue
		}
		n := 1
		for i+n < len(format) && format[i+n] == c {
			n++
		}
		layout, ok := timeLetters()[format[i:i+n]]
		if !ok {
			return "", evalErrorf("a time format knows no %s; it knows yyyy yy MM M MMM MMMM dd d EEE EEEE HH hh h mm m ss s SSS a XXX xx z", strconv.Quote(format[i:i+n]))
		}
		if c == 'S' && !strings.HasSuffix(out.String(), "05.") && !strings.HasSuffix(out.String(), "05,") {
			return "", evalErrorf("SSS stands behind ss. in a time format")
		}
		out.WriteString(layout)
		i += n
	}
	return out.String(), nil
}

func timeLetters() map[string]string {
	return map[string]string{
		"yyyy": "2006", "yy": "06", "MM": "01", "M": "1", "MMM": "Jan", "MMMM": "January",
		"dd": "02", "d": "2", "EEE": "Mon", "EEEE": "Monday",
		"HH": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5",
		"SSS": "000", "SSSSSS": "000000", "SSSSSSSSS": "000000000",
		"a": "PM", "XXX": "Z07:00", "xxx": "-07:00", "xx": "-0700", "z": "MST",
	}
}

// quoted reads '…' at the start of s, with ” inside for a quote; ” alone is a quote too.
func quoted(s string) (text string, n int, ok bool) {
	if strings.HasPrefix(s, "''") {
		return "'", 2, true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), i + 1, true
	}
	return "", 0, false
}

// hasLayoutText reports whether package time would read something into literal text.
func hasLayoutText(s string) bool {
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' || s[i] == '_' {
			return true
		}
	}
	for _, w := range []string{"Jan", "Mon", "MST", "PM", "pm"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func shorten(s string) string {
	if len(s) > 40 {
		return s[:37] + "…"
	}
	return s
}
