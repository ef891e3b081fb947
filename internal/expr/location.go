package expr

import "time"

// Zones reads time zones from the database that is embedded here: a process that is locked
// down can open no file. The zero Zones is ready; it is safe for concurrent use.
type Zones struct{ z zones }

// Load returns the location of an IANA name ("Europe/Berlin"), of "UTC", or of an offset
// ("+02:00").
func (z *Zones) Load(name string) (*time.Location, error) { return z.z.load(name) }
