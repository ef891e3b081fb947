package store

// Organization returns the organization of this installation, the one that was made
// first. [ErrNotFound] means that there is none yet.
func (s System) Organization() (*Organization, error) {
	o := &Organization{}
	err := s.q.row(`SELECT organization_id, name FROM organization ORDER BY created, organization_id LIMIT 1`, nil, fixed{o.ID[:]}, &o.Name)
	if err != nil {
		return nil, err
	}
	return o, nil
}
