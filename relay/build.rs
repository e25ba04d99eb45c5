//! Makes sure that the folder of the built web client exists, since what isn't there can't be embedded or watched, and
//! has the crate built anew when its content changes. An empty folder gives a relay without the web client.

fn main() -> std::io::Result<()> {
    std::fs::create_dir_all("../web/dist")?;
    println!("cargo:rerun-if-changed=../web/dist");
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
