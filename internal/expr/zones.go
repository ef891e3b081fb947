package expr

type zones struct{}
