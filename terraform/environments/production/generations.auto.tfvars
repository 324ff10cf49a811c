# To roll the KEK: add the next generation as active and turn the present one to retired, with still_wraps = true until
# every writer has taken up the new one; `make apply`, `make rewrap`.
generations = {
  g1 = { state = "active" }
}
