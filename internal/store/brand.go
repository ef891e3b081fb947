package store

// Brand is how the organization looks on hosted pages, and where they may lead back to.
type Brand struct {
	Title      string
	Colours    map[string]string // by place: accent, background, text; as #rrggbb
	Logo       []byte            // PNG, JPEG, GIF or WebP
	ReturnURLs []string          // prefixes
}

// Brand reads the brand of the organization. Without a title of its own it has its name.
func (o Org) Brand() (*Brand, error) {
	b := &Brand{}
	err := o.q.row(`
		SELECT CASE WHEN title = '' THEN name ELSE title END, brand, logo, return_urls
		FROM organization
		WHERE organization_id = $1 AND deleted = 0`,
		[]any{o.id[:]}, &b.Title, jsonText{&b.Colours}, &b.Logo, jsonText{&b.ReturnURLs})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// PutBrand replaces the brand of the organization.
func (o OrgTx) PutBrand(b *Brand) error {
	n, err := o.tx.exec(`
		UPDATE organization
		SET title = $2, brand = $3, logo = $4, return_urls = $5
		WHERE organization_id = $1 AND deleted = 0`,
		o.id[:], b.Title, jsonObject(b.Colours), blob(b.Logo), jsonList(b.ReturnURLs))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}
