package expr

func (c *compiler) infer() Type { return Dyn() }
