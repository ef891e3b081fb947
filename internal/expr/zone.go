package expr

import (
	"archive/zip"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// zoneinfo is the IANA time zone database as it ships with Go. It is embedded because a worker
// may not open files, and time.LoadLocation would try to.
//
//go:embed zoneinfo.zip
var zoneinfo string

// zones reads time zones from the embedded database and keeps those it has read.
type zones struct {
	mu     sync.Mutex
	files  map[string]*zip.File
	loaded map[string]*time.Location
}

// maxZoneName is longer than any name in the database.
const maxZoneName = 64

// load returns the location of an IANA name ("Europe/Berlin"), of "UTC", or of an offset
// ("+02:00").
func (z *zones) load(name string) (*time.Location, error) {
	switch {
	case name == "" || name == "UTC" || name == "Z":
		return time.UTC, nil
	case len(name) > maxZoneName:
		return nil, errZone
	case name[0] == '+' || name[0] == '-':
		t, err := time.Parse("-07:00", name)
		if err != nil {
			return nil, errZone
		}
		_, offset := t.Zone()
		return time.FixedZone(name, offset), nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if loc, ok := z.loaded[name]; ok {
		return loc, nil
	}
	if z.files == nil {
		if err := z.open(); err != nil {
			return nil, err
		}
	}
	f, ok := z.files[name]
	if !ok {
		return nil, errZone
	}
	loc, err := readZone(f)
	if err != nil {
		return nil, err
	}
	z.loaded[name] = loc
	return loc, nil
}

var errZone = evalErrorf("there is no such time zone; use a name like Europe/Berlin, UTC, or an offset like +02:00")

func (z *zones) open() error {
	r, err := zip.NewReader(strings.NewReader(zoneinfo), int64(len(zoneinfo)))
	if err != nil {
		return fmt.Errorf("open time zones: %w", err)
	}
	z.files = make(map[string]*zip.File, len(r.File))
	z.loaded = map[string]*time.Location{}
	for _, f := range r.File {
		z.files[f.Name] = f
	}
	return nil
}

func readZone(f *zip.File) (*time.Location, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("open time zone: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read time zone: %w", err)
	}
	loc, err := time.LoadLocationFromTZData(f.Name, data)
	if err != nil {
		return nil, fmt.Errorf("read time zone: %w", err)
	}
	return loc, nil
}

// KnownZone reports whether a name is an IANA time zone such as Europe/Berlin, or UTC. It opens no file.
func KnownZone(name string) bool {
	if name == "" || name == "Z" || name[0] == '+' || name[0] == '-' {
		return false
	}
	_, err := (&zones{}).load(name)
	return err == nil
}
