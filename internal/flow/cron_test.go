package flow

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestCronNext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line, zone, after string
		want                    []string
	}{
		{"every quarter", "*/15 * * * *", "UTC", "2026-11-21T20:37:59Z", []string{"2026-11-21T20:45:00Z", "2026-11-21T21:00:00Z"}},
		{"strictly after", "0 2 * * *", "UTC", "2026-11-21T02:00:00Z", []string{"2026-11-22T02:00:00Z"}},
		{"seconds before", "0 2 * * *", "UTC", "2026-11-21T01:59:59.999Z", []string{"2026-11-21T02:00:00Z"}},
		{"list and range", "5,10-12 8 * * *", "UTC", "2026-01-01T00:00:00Z", []string{"2026-01-01T08:05:00Z", "2026-01-01T08:10:00Z", "2026-01-01T08:11:00Z", "2026-01-01T08:12:00Z", "2026-01-02T08:05:00Z"}},
		{"names", "0 9 * jan-MAR mon", "UTC", "2026-03-24T00:00:00Z", []string{"2026-03-30T09:00:00Z", "2027-01-04T09:00:00Z"}},
		{"sunday is 7", "0 0 * * 7", "UTC", "2026-11-21T00:00:00Z", []string{"2026-11-22T00:00:00Z"}},
		{"friday to sunday", "0 0 * * FRI-SUN", "UTC", "2026-11-23T00:00:00Z", []string{"2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z", "2026-12-04T00:00:00Z"}},
		{"either day", "0 0 13 * FRI", "UTC", "2026-11-06T00:00:00Z", []string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"}},
		{"stepped star restricts together", "0 0 */2 * MON", "UTC", "2026-11-01T00:00:00Z", []string{"2026-11-09T00:00:00Z", "2026-11-23T00:00:00Z"}},
		{"leap day", "0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		{"end of months", "0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", []string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		{"local time", "0 2 * * *", "Asia/Kolkata", "2026-11-21T00:00:00Z", []string{"2026-11-21T20:30:00Z"}},
		{"skipped time runs at the shift", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"skipped times run once", "0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
		{"skipped and following meet", "0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
		{"repeated time runs once", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"after the first of two", "30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", []string{"2026-10-26T01:30:00Z"}},
		{"every half hour runs through both hours", "*/30 * * * *", "Europe/Berlin", "2026-10-24T23:59:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"}},
		{"every half hour over the gap", "*/30 * * * *", "Europe/Berlin", "2026-03-29T00:29:00Z", []string{"2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"}},
		{"half an hour of shift", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		{"midnight skipped", "0 0 * * *", "America/Asuncion", "2023-09-30T12:00:00Z", []string{"2023-10-01T04:00:00Z", "2023-10-02T03:00:00Z"}},
		{"a whole day skipped", "0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", []string{"2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := ParseCron(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339Nano, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tt.want {
				if at, err = c.Next(at, zone(t, tt.zone)); err != nil {
					t.Fatal(err)
				}
				if got := at.UTC().Format(time.RFC3339); got != want {
					t.Fatalf("run %d of %q in %s: got %s, want %s", i, tt.line, tt.zone, got, want)
				}
			}
		})
	}
}

func TestCronErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line           string
		offset, length int
	}{
		{"", 0, 0},
		{"* * * *", 0, 7},
		{"* * * * * *", 0, 11},
		{"@daily", 0, 6},
		{"60 * * * *", 0, 2},
		{"* 24 * * *", 2, 2},
		{"* * 0 * *", 4, 1},
		{"* * * 13 *", 6, 2},
		{"*  *  * * 8", 10, 1},
		{"* * * FOO *", 6, 3},
		{"* * * NFE *", 6, 3},
		{"5/15 * * * *", 0, 4},
		{"*/0 * * * *", 0, 3},
		{"*/x * * * *", 0, 3},
		{"*/ * * * *", 0, 2},
		{"5-1 * * * *", 0, 3},
		{"1,,2 * * * *", 0, 4},
		{"-1 * * * *", 0, 2},
		{"+1 * * * *", 0, 2},
		{"0 0 30 2 *", 4, 4},
		{"0 0 31 4,6 *", 4, 6},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			_, err := ParseCron(tt.line)
			var ce *CronError
			if !errors.As(err, &ce) {
				t.Fatalf("ParseCron(%q): got error %v, want a CronError", tt.line, err)
			}
			if ce.Offset != tt.offset || ce.Length != tt.length || ce.Message == "" {
				t.Errorf("ParseCron(%q): got %d+%d %q, want %d+%d", tt.line, ce.Offset, ce.Length, ce.Message, tt.offset, tt.length)
			}
		})
	}
}

// TestCronAgainstMinutes compares Next with a walk over every minute, in zones and years with shifts, for lines whose hour
// is `*`, where the definition is simply "every minute whose clock matches".
func TestCronAgainstMinutes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe"} {
		loc := zone(t, name)
		for _, line := range []string{"*/7 * * * *", "13,14,59 * * * *", "0 * * * MON-WED", "30 * 1,15 * *"} {
			c, err := ParseCron(line)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				after := time.Date(2026, time.Month(random.IntN(12)+1), random.IntN(28)+1, random.IntN(24), random.IntN(60), random.IntN(60), 0, time.UTC)
				want := after.Truncate(time.Minute).Add(time.Minute).In(loc)
				for !c.matchesDay(time.Date(want.Year(), want.Month(), want.Day(), 0, 0, 0, 0, time.UTC)) || c.minute&(1<<want.Minute()) == 0 {
					want = want.Add(time.Minute)
				}
				got, err := c.Next(after, loc)
				if err != nil {
					t.Fatal(err)
				}
				// A skipped time runs at the shift, which the walk over real minutes does not see.
				if got.Before(want) {
					if start, _ := got.ZoneBounds(); start.Equal(got) {
						continue
					}
				}
				if !got.Equal(want) {
					t.Errorf("%q in %s after %s: got %s, want %s", line, name, after, got, want)
				}
			}
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("*/15 * * * *", int64(1_790_000_000))
	f.Add("0 2 29 2 MON", int64(0))
	f.Fuzz(func(t *testing.T, line string, unix int64) {
		c, err := ParseCron(line)
		if err != nil {
			return
		}
		after := time.Unix(unix%(1<<33), 0)
		next, err := c.Next(after, time.UTC)
		if err != nil || !next.After(after) || next.Second() != 0 {
			t.Errorf("next of %q after %s: got %s, %v", line, after, next, err)
		}
	})
}

func BenchmarkCronNext(b *testing.B) {
	c, err := ParseCron("0 2 * * *")
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := c.Next(at, time.UTC); err != nil {
			b.Fatal(err)
		}
	}
}
