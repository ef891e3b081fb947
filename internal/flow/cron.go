package flow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cron is a parsed cron line of five fields: minute, hour, day of month, month, day of week. It is immutable.
//
// A field is `*`, a number, a range `1-5`, a list `1,3,5`, each range or `*` with a step `*/15`; months and days of the
// week also by their English names of three letters. 7 is Sunday as 0 is. Where day of month and day of week are both
// restricted, a day that matches either matches, as in every cron since Unix V7.
//
// When clocks go forward, times that do not exist run once at the moment of the shift. When clocks go back, times that
// exist twice run the first time only; a line whose hour is `*` means an interval and runs through both hours.
type Cron struct {
	minute, hour, day, month, weekday uint64 // bit n: value n matches
	anyDay, anyWeekday, anyHour       bool
}

// CronError says what is wrong with a cron line, and where.
type CronError struct {
	Offset, Length int // bytes in the line
	Message        string
}

// Error is the message.
func (e *CronError) Error() string { return "parse cron line: " + e.Message }

type cronField struct {
	name     string
	min, max int
	names    string // three letters each, the first stands for min
}

func cronFields() [5]cronField {
	return [5]cronField{
		{"minute", 0, 59, ""},
		{"hour", 0, 23, ""},
		{"day of month", 1, 31, ""},
		{"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC"},
		{"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT"},
	}
}

// ParseCron reads a cron line. Every error is a *CronError.
func ParseCron(line string) (*Cron, error) {
	if strings.HasPrefix(line, "@") {
		return nil, &CronError{0, len(line), `short forms such as @daily are not known: write five fields such as "0 0 * * *"`}
	}
	fields, offsets := splitFields(line)
	if len(fields) != 5 {
		return nil, &CronError{0, len(line), fmt.Sprintf("five fields are expected (minute, hour, day of month, month, day of week), this has %d", len(fields))}
	}
	var bits [5]uint64
	for i, f := range cronFields() {
		b, err := f.parse(fields[i])
		if err != nil {
			return nil, &CronError{offsets[i], len(fields[i]), f.name + ": " + err.Error()}
		}
		bits[i] = b
	}
	if bits[4]&(1<<7) != 0 {
		bits[4] = bits[4]&^(1<<7) | 1
	}
	c := &Cron{
		minute: bits[0], hour: bits[1], day: bits[2], month: bits[3], weekday: bits[4],
		anyHour: fields[1] == "*", anyDay: strings.HasPrefix(fields[2], "*"), anyWeekday: strings.HasPrefix(fields[4], "*"),
	}
	if !c.possible() {
		return nil, &CronError{offsets[2], offsets[3] + len(fields[3]) - offsets[2], "this day of the month never comes in this month"}
	}
	return c, nil
}

func splitFields(line string) (fields []string, offsets []int) {
	for at := 0; at < len(line); {
		if line[at] == ' ' || line[at] == '\t' {
			at++
			continue
		}
		n := strings.IndexAny(line[at:], " \t")
		if n < 0 {
			n = len(line) - at
		}
		fields, offsets = append(fields, line[at:at+n]), append(offsets, at)
		at += n
	}
	return fields, offsets
}

// possible says whether any day matches: a day of the month that no selected month has never comes.
func (c *Cron) possible() bool {
	if !c.anyWeekday {
		return true
	}
	for month := 1; month <= 12; month++ {
		days := time.Date(2024, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
		if c.month&(1<<month) != 0 && c.day&(1<<(days+1)-1) != 0 {
			return true
		}
	}
	return false
}

func (f cronField) parse(s string) (uint64, error) {
	var bits uint64
	for _, item := range strings.Split(s, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		low, high, err := f.span(span, stepped)
		if err != nil {
			return 0, err
		}
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.max || stepText[0] == '+' {
				return 0, fmt.Errorf("the step %q is not a number from 1 to %d", stepText, f.max)
			}
		}
		for n := low; n <= high; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

func (f cronField) span(s string, stepped bool) (low, high int, err error) {
	if s == "*" {
		if f.max == 7 {
			return 0, 6, nil
		}
		return f.min, f.max, nil
	}
	from, to, ranged := strings.Cut(s, "-")
	if low, err = f.number(from); err != nil {
		return 0, 0, err
	}
	if !ranged {
		if stepped {
			return 0, 0, fmt.Errorf("a step needs a range: write %s-%d/… or */…", from, f.max)
		}
		return low, low, nil
	}
	if high, err = f.number(to); err != nil {
		return 0, 0, err
	}
	if f.max == 7 && high == 0 && low > 0 {
		high = 7
	}
	if high < low {
		return 0, 0, fmt.Errorf("the range %q runs backwards: write it as two, separated by a comma", s)
	}
	return low, high, nil
}

func (f cronField) number(s string) (int, error) {
	if len(s) == 3 && f.names != "" {
		if at := strings.Index(f.names, strings.ToUpper(s)); at >= 0 && at%3 == 0 {
			return f.min + at/3, nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < f.min || n > f.max || s[0] < '0' || s[0] > '9' {
		if f.names != "" {
			return 0, fmt.Errorf("%q is neither a number from %d to %d nor a name such as %s", s, f.min, f.max, f.names[:3])
		}
		return 0, fmt.Errorf("%q is not a number from %d to %d", s, f.min, f.max)
	}
	return n, nil
}

// ErrNeverAgain is the error of Next where no time follows, which only a time near the end of the calendar causes.
var ErrNeverAgain = errors.New("no further time matches")

// maxCronDays bounds the search: 29 February is at most eight years away.
const maxCronDays = 9 * 366

// Next returns the first time after `after` at which the line matches on the clocks of a location, in that location.
func (c *Cron) Next(after time.Time, loc *time.Location) (time.Time, error) {
	local := after.In(loc)
	// One day back: a shift across midnight moves a time of the day before into this one.
	day := time.Date(local.Year(), local.Month(), local.Day()-1, 0, 0, 0, 0, time.UTC)
	for range maxCronDays {
		if c.matchesDay(day) {
			if next := c.nextOn(day, after, loc); !next.IsZero() {
				return next, nil
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return time.Time{}, ErrNeverAgain
}

func (c *Cron) matchesDay(day time.Time) bool {
	if c.month&(1<<int(day.Month())) == 0 {
		return false
	}
	inMonth, inWeek := c.day&(1<<day.Day()) != 0, c.weekday&(1<<int(day.Weekday())) != 0
	if c.anyDay || c.anyWeekday {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

// nextOn returns the first match after `after` among the wall clock times of a day, or the zero time. day is midnight of
// the wall clock, written in UTC.
func (c *Cron) nextOn(day, after time.Time, loc *time.Location) time.Time {
	var best time.Time
	for hour := range 24 {
		if c.hour&(1<<hour) == 0 {
			continue
		}
		for minute := range 60 {
			if c.minute&(1<<minute) == 0 {
				continue
			}
			wall := day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
			first, second := instants(wall, loc)
			for _, t := range []time.Time{first, second} {
				again := t == second && second != first
				if t.After(after) && (!again || c.anyHour) && (best.IsZero() || t.Before(best)) {
					best = t
				}
			}
			if !best.IsZero() && !c.anyHour {
				return best
			}
		}
	}
	return best
}

// instants returns the moments at which clocks of loc show a wall clock time: usually one, returned twice; two where
// clocks go back; the moment of the shift where they jump over it.
func instants(wall time.Time, loc *time.Location) (first, second time.Time) {
	_, before := wall.Add(-36 * time.Hour).In(loc).Zone()
	_, after := wall.Add(36 * time.Hour).In(loc).Zone()
	early := wall.Add(-time.Duration(max(before, after)) * time.Second).In(loc)
	late := wall.Add(-time.Duration(min(before, after)) * time.Second).In(loc)
	_, earlyOffset := early.Zone()
	_, lateOffset := late.Zone()
	earlyShows, lateShows := earlyOffset == max(before, after), lateOffset == min(before, after)
	switch {
	case earlyShows && lateShows:
		return early, late
	case earlyShows:
		return early, early
	case lateShows:
		return late, late
	}
	shift, _ := late.ZoneBounds()
	return shift, shift
}
