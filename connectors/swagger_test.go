package connectors_test

// upgrade makes of a Swagger 2.0 document what is compared of one of OpenAPI 3: servers, bodies, schemas of parameters and answers.
// References stay as they are, because they are followed as paths.
func (d *described) upgrade() {
	basePath, _ := d.root["basePath"].(string)
	d.root["servers"] = []any{map[string]any{"url": "https://x" + basePath}}
	d.root["components"] = map[string]any{"securitySchemes": d.root["securityDefinitions"]}
	for _, item := range object(d.root["paths"]) {
		shared := list(object(item)["parameters"])
		for _, op := range object(item) {
			op := object(op)
			if op == nil {
				continue
			}
			d.upgradeRequest(op, shared)
			for status, answer := range object(op["responses"]) {
				if a := d.deref(answer); a["schema"] != nil {
					object(op["responses"])[status] = map[string]any{"content": typed(op["produces"], d.root["produces"], a["schema"])}
				}
			}
		}
		if object(item) != nil {
			delete(object(item), "parameters")
		}
	}
}

func (d *described) upgradeRequest(op map[string]any, shared []any) {
	var params []any
	props, files := map[string]any{}, false
	var required []any
	for _, p := range append(list(op["parameters"]), shared...) {
		p := d.deref(p)
		switch p["in"] {
		case "body":
			op["requestBody"] = map[string]any{"required": p["required"], "content": typed(op["consumes"], d.root["consumes"], p["schema"])}
		case "formData":
			name, _ := p["name"].(string)
			props[name] = p
			files = files || p["type"] == "file"
			if p["required"] == true {
				required = append(required, name)
			}
		default:
			if p["schema"] == nil {
				p["schema"] = map[string]any{"type": p["type"], "enum": p["enum"], "items": p["items"]}
			}
			params = append(params, p)
		}
	}
	op["parameters"] = params
	if len(props) > 0 {
		kind := "application/x-www-form-urlencoded"
		if files {
			kind = "multipart/form-data"
		}
		for _, p := range props { // a parameter's own keys are no schema's
			delete(object(p), "required")
		}
		op["requestBody"] = map[string]any{"content": map[string]any{kind: map[string]any{"schema": map[string]any{"type": "object", "properties": props, "required": required}}}}
	}
}

// typed is the content of a body: its schema by the types of the operation, else those of the document.
func typed(own, all, schema any) map[string]any {
	types := texts(own)
	if len(types) == 0 {
		types = texts(all)
	}
	if len(types) == 0 {
		types = []string{"application/json"}
	}
	out := map[string]any{}
	for _, t := range types {
		out[t] = map[string]any{"schema": schema}
	}
	return out
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
